"""One-step solvers of dx/dt = field(x, t): each yields x after every step.

`times` (S + 1, ...) rise from 0 to 1; their rows broadcast against x. They are kept in their own precision, and only
a step's length takes x's.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

from torch import Tensor

Field = Callable[[Tensor, Tensor], Tensor]


def euler(field: Field, x_0: Tensor, times: Tensor) -> Iterator[Tensor]:
    """Euler's method, order 1, one evaluation a step."""
    x = x_0
    for t, t_next in pairwise(times):
        x = x + (t_next - t).to(x) * field(x, t)
        yield x


def heun(field: Field, x_0: Tensor, times: Tensor) -> Iterator[Tensor]:
    """Heun's method (the trapezoid), order 2, two evaluations a step."""
    x = x_0
    for t, t_next in pairwise(times):
        step = (t_next - t).to(x)
        v = field(x, t)
        x = x + step / 2 * (v + field(x + step * v, t_next))
        yield x


def midpoint(field: Field, x_0: Tensor, times: Tensor) -> Iterator[Tensor]:
    """The midpoint method, order 2, two evaluations a step."""
    x = x_0
    for t, t_next in pairwise(times):
        step = (t_next - t).to(x)
        x = x + step * field(x + step / 2 * field(x, t), (t + t_next) / 2)
        yield x
