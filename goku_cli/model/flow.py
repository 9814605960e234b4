"""Rectified flow, as in the paper's section 3: t = 0 is noise, t = 1 is data.

    x_t = t * x_1 + (1 - t) * x_0,    v = dx_t / dt = x_1 - x_0,    x_0 ~ N(0, I)

The network predicts v from (x_t, t); sampling integrates dx/dt = v from 0 to 1. Much other code runs time the
other way (1 = noise): a shift s of the noise level u = 1 - t, u' = s u / (1 + (s - 1) u), becomes here
t' = t / (t + s (1 - t)), which moves times towards noise for s > 1.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """Return x_t on the straight line from noise x_0 to data x_1; t broadcasts against both."""
    return t * x_1 + (1 - t) * x_0


def velocity(x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return the target v = x_1 - x_0, constant along the line."""
    return x_1 - x_0


def shift_time(t: Tensor, shift: float) -> Tensor:
    """Move times towards noise by `shift` (1 = none), e.g. 3 at 480p (Esser et al. 2024, SD3, eq. 23)."""
    return t / (t + shift * (1 - t))


def logit_normal_time(normal: Tensor, shift: float = 1.0) -> Tensor:
    """Turn standard normal draws into training times, t = sigmoid(normal), then shifted (SD3, section 3.1)."""
    return shift_time(torch.sigmoid(normal), shift)


def time_grid(steps: int, shift: float = 1.0) -> Tensor:
    """Return the `steps` + 1 sampling times from 0 to 1, shifted like the training times."""
    return shift_time(torch.linspace(0, 1, steps + 1, dtype=torch.float64), shift)


def guide(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022) on velocities; 1 leaves the conditional one."""
    return unconditional + guidance * (conditional - unconditional)


def euler(field: Callable[[Tensor, float], Tensor], x_0: Tensor, times: Tensor) -> Iterator[Tensor]:
    """Integrate dx/dt = field(x, t) by Euler's method and yield x after every step."""
    x = x_0
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        x = x + (t_next - t) * field(x, t)
        yield x
