"""Selective activation checkpointing (paper section 5): what a block forgets and computes again for its gradient.

By layer, and by operation. "full" keeps a block's input alone. "attention" keeps the outputs of attention beside
it, which are as small as that input (N x D) and, in long sequences, most of the work: at 90,000 tokens of the 2B model
attention is 88 % of a block's arithmetic, and none of that is done twice.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from goku_cli.model.presets import Recompute

ATTENTION_OPERATORS = (
    "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_cudnn_attention",
    "torch_attn::_varlen_attn", "flash_attn::_flash_attn_varlen_forward", "flash_attn_3::fwd",
)  # fmt: skip


def recomputed(block: nn.Module, recompute: Recompute) -> Callable[..., Any]:
    """Return the block as a function that keeps for its gradient only what the policy says."""
    if recompute.policy == "full":
        return functools.partial(checkpoint, block, use_reentrant=False)
    contexts = functools.partial(create_selective_checkpoint_contexts, _keep_attention)
    return functools.partial(checkpoint, block, use_reentrant=False, context_fn=contexts)


def _keep_attention(_context: Any, operator: torch._ops.OpOverload, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    kept = operator.name().split(".")[0] in ATTENTION_OPERATORS
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
