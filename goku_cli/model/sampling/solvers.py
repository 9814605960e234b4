"""From noise to data: the solvers by name.

    *_, x_1 = solve(objective, "heun", field, x_0, times)

A field maps (x, t) to the velocity, or to what DDPM's network predicts (`process.prediction`). `times` (S + 1, ...)
rise from 0 to 1; their rows broadcast against x, so that every sample, or every token (N, 1) of a pack, can have times
of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from goku_cli.errors import UsageError
from goku_cli.model.objective.objective import Objective
from goku_cli.registry import load, nearest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Solver:
    """One row of the table."""

    target: str
    evaluations: int
    """Of the network in a step; guidance doubles them."""
    flow: bool = True
    """Whether it integrates a velocity; else it samples the DDPM kinds."""
    reaches_data: bool = False
    """Whether it evaluates the network at t = 1."""


SOLVERS = {
    "euler": Solver("goku_cli.model.sampling.runge_kutta:euler", evaluations=1),
    "heun": Solver("goku_cli.model.sampling.runge_kutta:heun", evaluations=2, reaches_data=True),
    "midpoint": Solver("goku_cli.model.sampling.runge_kutta:midpoint", evaluations=2),
    "unipc": Solver("goku_cli.model.sampling.multistep:unipc", evaluations=1),
    "dpm++": Solver("goku_cli.model.sampling.multistep:dpm_plus_plus", evaluations=1),
    "ddim": Solver("goku_cli.model.objective.ddpm:ddim", evaluations=1, flow=False),
}


def check_solver(name: str, kind: str | None = None) -> None:
    """Check a solver's name and, when it is known, that it suits an objective's kind.

    Raises:
        UsageError: no such solver, or none for that kind.
    """
    if name not in SOLVERS:
        raise UsageError(f'unknown solver "{name}"{nearest(name, SOLVERS)}; known: {", ".join(SOLVERS)}')
    fitting = [known for known, solver in SOLVERS.items() if kind is None or solver.flow == (kind == "flow")]
    if name not in fitting:
        raise UsageError(f"solver {name} cannot sample a {kind} checkpoint; use --solver {' or '.join(fitting)}")


def solve(
    objective: Objective, name: str, field: "Callable[[Tensor, Tensor], Tensor]", x_0: "Tensor", times: "Tensor"
) -> "Iterator[Tensor]":
    """Yield x after every step of the named solver, from noise x_0 to data.

    Raises:
        UsageError: no such solver, or not for this objective.
    """
    check_solver(name, objective.kind)
    integrate = load(SOLVERS[name].target, {}, "solver")
    if not SOLVERS[name].flow:
        yield from integrate(field, x_0, times, objective)
    elif SOLVERS[name].reaches_data and objective.predicts == "data":
        # At t = 1 predicted data are x itself and have no velocity, so that the last step is Euler's.
        x = x_0
        for x in integrate(field, x_0, times[:-1]):
            yield x
        yield from load(SOLVERS["euler"].target, {}, "solver")(field, x, times[-2:])
    else:
        yield from integrate(field, x_0, times)
