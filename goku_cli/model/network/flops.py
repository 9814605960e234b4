"""Arithmetic of the transformer, a multiply-add counted as two: what packs are balanced by, and MFU is measured in.

A sample of n vision and m text tokens costs a*n + b*n^2 + ... per layer: its tokens meet the weights once each, and
each other. At 2B and 40,500 tokens a token costs 3.2 times what it costs in an image of 256.
"""

from typing import Any

import numpy as np

from goku_cli.model.network.packing import PATCH
from goku_cli.model.network.presets import ModelConfig, Recompute

BACKWARD = 2
"""The gradient with respect to inputs and to weights costs one forward pass each."""


def forward_flops(config: ModelConfig, tokens: Any, text_tokens: Any) -> Any:
    """Return the operations of one sample's forward pass, or of many, given as arrays; a text costs the rows that the
    model fills it up to."""
    linear, attention = _layer(config, tokens, text_tokens)
    ends = 2 * tokens * config.latent_channels * PATCH**2 * config.dim
    return 2.0 * (config.layers * (linear + attention) + ends)


def _layer(config: ModelConfig, tokens: Any, text_tokens: Any) -> tuple[Any, Any]:
    """Return the multiply-adds of one layer: where tokens meet weights, and where they meet each other."""
    text_tokens = np.maximum(config.text_rows, text_tokens)
    d, context = config.dim, config.dim if config.text_mlp else config.text_dim
    per_token = 4 * d * d + 2 * d * config.ffn_dim
    per_text_token = 0
    if config.text_dim:
        per_token += 2 * d * d
        per_text_token = 2 * context * d
    modulation = 0 if config.shared_modulation else 6 * d * d
    linear = tokens * per_token + text_tokens * per_text_token + modulation
    return linear, 2 * tokens * (tokens + text_tokens) * d


def recomputed_flops(config: ModelConfig, tokens: int, text_tokens: int, recompute: Recompute) -> float:
    """Return the operations that a policy does a second time for one sample's gradient."""
    linear, attention = _layer(config, tokens, text_tokens)
    layers = sum(recompute.covers(layer) for layer in range(config.layers))
    return 2.0 * layers * (linear + (attention if recompute.policy == "full" else 0))


def step_flops(config: ModelConfig, tokens: Any, text_tokens: Any) -> Any:
    """Return the operations of the forward and backward pass of one sample, or of many, without what is recomputed."""
    return (1 + BACKWARD) * forward_flops(config, tokens, text_tokens)
