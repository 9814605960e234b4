"""Selective activation checkpointing (paper section 5): what a block forgets and computes again for its gradient.

By layer, and by operation. "full" keeps a block's input alone. "attention" keeps the outputs of attention beside
it, which are as small as that input (N x D) and, in long sequences, most of the work: at 90,000 tokens of the 2B model
attention is 88 % of a block's arithmetic, and none of that is done twice.

Only the call of the kernel is watched, never the modules around it: ZeRO 3 gathers weights by other operations in the
second pass than in the first, which a watch over the whole block takes for a mistake.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from goku_cli.model.network.presets import Recompute

ATTENTION_OPERATORS = (
    "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_cudnn_attention",
    "torch_attn::_varlen_attn", "flash_attn::_flash_attn_varlen_forward", "flash_attn_3::fwd",
)  # fmt: skip

Watch = Callable[[], AbstractContextManager[Any]]
_watch: ContextVar[Watch] = ContextVar("watch", default=nullcontext)
"""What the next call of a kernel in this thread runs under."""


def recomputed(block: nn.Module, recompute: Recompute) -> Callable[..., Any]:
    """Return the block as a function that keeps for its gradient only what the policy says."""
    again = functools.partial(checkpoint, block, use_reentrant=False)
    return functools.partial(again, context_fn=_contexts) if recompute.policy == "attention" else again


@torch.compiler.disable
def remembered(attend: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Return what a kernel of attention returns; in the second pass of a block that kept it, without the work."""
    with _watch.get()():
        return attend(*arguments)


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of a block's two passes: calls of kernels meet their own outputs, in order."""
    recalls: list[AbstractContextManager[Any]] = []

    def save() -> AbstractContextManager[Any]:
        saving, recalling = create_selective_checkpoint_contexts(_keep_attention)
        recalls.append(recalling)
        return saving

    return _watching(lambda: save), _watching(lambda: iter(recalls).__next__)


@contextmanager
def _watching(make: Callable[[], Watch]) -> Iterator[None]:
    before = _watch.set(make())
    try:
        yield
    finally:
        _watch.reset(before)


def _keep_attention(_context: Any, operator: torch._ops.OpOverload, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    kept = operator.name().split(".")[0] in ATTENTION_OPERATORS
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
