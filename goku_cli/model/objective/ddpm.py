"""DDPM, the baseline of the paper's Table 2, in this project's time: t = 0 is noise, t = 1 is data.

    x_t = a x_1 + s x_0,    a = sqrt(alpha_bar),    s = sqrt(1 - alpha_bar),    x_0 ~ N(0, I)

The network predicts the noise x_0 ("ddpm-eps", Ho et al. 2020) or v = a x_0 - s x_1 ("ddpm-v", Salimans and Ho
2022). alpha_bar is the cumulative product of 1000 steps' 1 - beta, interpolated in its logarithm: discrete step i
is the time t = 1 - (i + 1) / 1000. The cosine ends with so little signal that eps says next to nothing of x_1 at
t = 0; use it with v.
"""

import functools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from goku_cli.model.objective.objective import Objective

STEPS = 1000


def linear_betas() -> Tensor:
    """Return the betas (1000,) of Ho et al. 2020: 1e-4 to 0.02."""
    return torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)


def cosine_betas() -> Tensor:
    """Return the betas (1000,) of Nichol and Dhariwal 2021, eq. 17: offset 0.008, at most 0.999."""
    level = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    cumulative = torch.cos((level + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - cumulative[1:] / cumulative[:-1]).clamp(max=0.999)


@functools.cache
def _log_alpha_bar(schedule: str) -> Tensor:
    """Return log alpha_bar (1001,) at the noise levels 0, 0.001, ..., 1."""
    betas = {"linear": linear_betas, "cosine": cosine_betas}[schedule]()
    return torch.nn.functional.pad(torch.log1p(-betas).cumsum(0), (1, 0))


def alpha_bar(schedule: str, t: Tensor) -> Tensor:
    """Return the share of the variance that is data at the times t, of any shape: 1 at t = 1, almost 0 at t = 0."""
    table = _log_alpha_bar(schedule).to(t.device)
    place = (1 - t.double()) * STEPS
    below = place.long().clamp(0, STEPS - 1)
    return torch.lerp(table[below], table[below + 1], place - below).exp().to(t.dtype)


def corrupt(x_0: Tensor, x_1: Tensor, alpha_bar: Tensor) -> Tensor:
    """Return x_t from noise x_0 and data x_1."""
    return alpha_bar.sqrt() * x_1 + (1 - alpha_bar).sqrt() * x_0


def target(kind: str, x_0: Tensor, x_1: Tensor, alpha_bar: Tensor) -> Tensor:
    """Return what a network of this kind predicts."""
    return x_0 if kind == "ddpm-eps" else alpha_bar.sqrt() * x_0 - (1 - alpha_bar).sqrt() * x_1


def ends(kind: str, x: Tensor, output: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """Return the noise x_0 and the data x_1 that the network's output says x is made of."""
    a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if kind == "ddpm-eps":
        return output, (x - s * output) / a
    return s * x + a * output, a * x - s * output


def ddim(
    field: Callable[[Tensor, Tensor], Tensor], x_0: Tensor, times: Tensor, objective: Objective
) -> Iterator[Tensor]:
    """Sample deterministically (Song et al. 2021, DDIM, eq. 12 with eta = 0) and yield x after every step.

    `field` returns the network's prediction; `times` (S + 1, ...) rise to 1, and their rows broadcast against x.
    """
    x = x_0
    levels = alpha_bar(objective.schedule, times)
    for t, level, next_level in zip(times[:-1], levels[:-1], levels[1:], strict=True):
        noise, data = ends(objective.kind, x, field(x, t), level.to(x))
        x = corrupt(noise, data, next_level.to(x))
        yield x
