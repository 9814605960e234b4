"""What follows from an objective: times of training and of sampling, x_t, the target, and what a network's output says
of it. t = 0 is noise.

B samples in a batch; each has the shift of its own latent shape (C, T, H, W).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from goku_cli.errors import UsageError
from goku_cli.model.network.packing import Shape
from goku_cli.model.objective import ddpm, flow
from goku_cli.model.objective.objective import DENSITIES, Objective
from goku_cli.registry import load


def training_times(objective: Objective, u_B: Tensor, shapes: Sequence[Shape]) -> Tensor:
    """Turn uniform draws in (0, 1) into the samples' times (B,): by the density, then each by its own shift."""
    density = objective.times
    quantile = load(density.name, DENSITIES, "density")
    return flow.shift_time(quantile(u_B, density.loc, density.scale), _shifts(objective, shapes).to(u_B))


def sampling_times(objective: Objective, steps: int, shapes: Sequence[Shape]) -> Tensor:
    """Return the times (steps + 1, B), float64, from 0 to 1: evenly spaced, then each sample's by its own shift.

    Raises:
        UsageError: less than one step.
    """
    if steps < 1:
        raise UsageError(f"steps must be at least 1, not {steps}")
    even = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return flow.shift_time(even[:, None], _shifts(objective, shapes))


def _shifts(objective: Objective, shapes: Sequence[Shape]) -> Tensor:
    return torch.tensor([objective.shift.of(shape) for shape in shapes], dtype=torch.float64)


def corrupt(objective: Objective, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """Return x_t between noise x_0 and data x_1; t broadcasts against both."""
    if objective.kind == "flow":
        return flow.interpolate(x_0, x_1, t)
    return ddpm.corrupt(x_0, x_1, ddpm.alpha_bar(objective.schedule, t))


def target(objective: Objective, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """Return what `prediction` shall be at (x_t, t): of a flow the velocity.

    Of a network that predicts data it is divided by the same as the prediction, so that the right data cost nothing.
    """
    if objective.predicts == "data":
        return flow.velocity_to(x_1, corrupt(objective, x_0, x_1, t), t)
    if objective.kind == "flow":
        return flow.velocity(x_0, x_1)
    return ddpm.target(objective.kind, x_0, x_1, ddpm.alpha_bar(objective.schedule, t))


def prediction(objective: Objective, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Return what the network's output at (x_t, t) says of `target`, which is also what a solver wants.

    Of a flow it is the velocity, whether the network predicts that or data; the DDPM kinds' output is left as it is.
    Both t and x_t broadcast against the output.
    """
    return flow.velocity_to(output, x_t, t) if objective.predicts == "data" else output


def median_time(objective: Objective, shape: Shape) -> float:
    """Return the time that half of the training on latents of this shape lies below."""
    return float(training_times(objective, torch.tensor([0.5], dtype=torch.float64), [shape]))
