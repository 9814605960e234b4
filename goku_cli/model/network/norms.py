"""Norms in the precision of what they normalize.

Autocast runs PyTorch's own in float32 on a GPU: three times the bytes of a fused kernel in bfloat16, which sums in
float32 inside anyway. Shapes: (..., D).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def exactly(x: Tensor) -> torch.autocast:
    """Switch autocast off: operations keep the dtype of what they are given."""
    return torch.autocast(x.device.type, enabled=False)


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * weight, in the dtype of x (Zhang and Sennrich 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        with exactly(x):
            return F.rms_norm(x, self.normalized_shape, _like(self.weight, x), self.eps)


class LayerNorm(nn.LayerNorm):
    """(x - mean(x)) / sqrt(var(x) + eps) * weight + bias, in the dtype of x (Ba et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        with exactly(x):
            return F.layer_norm(x, self.normalized_shape, _like(self.weight, x), _like(self.bias, x), self.eps)


def _like(weight: Tensor | None, x: Tensor) -> Tensor | None:
    """Return weights in the dtype of x, without which PyTorch has no fused kernel."""
    return None if weight is None else weight.to(x.dtype)
