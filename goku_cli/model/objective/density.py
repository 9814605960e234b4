"""Densities of the training time as quantile functions: a uniform draw u in (0, 1) becomes a time t, 0 is noise.

All take (u, loc, scale) and rise from t = 0 to t = 1, so evenly spread draws give evenly spread times. Esser et al.
2024 (SD3, section 3.1) write the same densities for the noise level 1 - t.
"""

import math

import torch
from torch import Tensor


def logit_normal(u: Tensor, loc: float, scale: float) -> Tensor:
    """Return t whose logit is normal with mean `loc` and standard deviation `scale`."""
    return torch.sigmoid(loc + scale * torch.special.ndtri(u))


def uniform(u: Tensor, loc: float, scale: float) -> Tensor:
    """Return u itself; there are no parameters."""
    return u


def mode(u: Tensor, loc: float, scale: float) -> Tensor:
    """Return SD3's mode sampling: more of the middle for scale > 0, more of both ends for scale < 0; no `loc`.

    Its f(u) = 1 - u - s (cos^2(pi u / 2) - 1 + u) is a noise level, and t = 1 - f(u).
    """
    return u + scale * (torch.cos(math.pi / 2 * u).square() - 1 + u)
