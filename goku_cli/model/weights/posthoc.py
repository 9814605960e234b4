"""Averages of the weights of any length, made after the training (Karras et al. 2024, section 3 and appendix C).

A power-function average of exponent g has its weight at step s in proportion to s^g: it is as long as the run is, by a
fixed share. Snapshots of two such averages along a run span those of other lengths: the profile wanted is fitted to the
profiles that there are, by least squares, in closed form.
"""

from collections.abc import Sequence

import numpy as np

from goku_cli.errors import UsageError

SHORTEST, LONGEST = 0.01, 0.28
"""Of relative lengths: beyond 0.28 there is no exponent."""

Snapshot = tuple[int, float]
"""Step and exponent."""


def exponent_of(length: float) -> float:
    """Return the exponent of an average whose standard deviation in time is `length` of the run.

    Raises:
        UsageError: no average is so short or so long.
    """
    if not SHORTEST <= length <= LONGEST:
        raise UsageError(f"the length of an average must lie between {SHORTEST} and {LONGEST} of the run, not {length}")
    inverse = length**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def share(exponent: float, step: int) -> float:
    """Return how much of the weights after the `step`-th step (from 1) goes into the average."""
    return float(1 - (1 - 1 / step) ** (exponent + 1))


def coefficients(have: Sequence[Snapshot], want: Snapshot) -> np.ndarray:
    """Return what snapshots are to be multiplied by, so that their sum is nearest to another average."""
    profiles = np.array([[_product(a, b) for b in have] for a in have])
    wanted = np.array([_product(a, want) for a in have])
    solved: np.ndarray = np.linalg.solve(profiles, wanted)
    return solved


def _product(a: Snapshot, b: Snapshot) -> float:
    """Return the integral of the product of two averages' profiles."""
    (step_a, g_a), (step_b, g_b) = a, b
    ratio = (step_a / step_b) ** (g_b if step_a < step_b else -g_a)
    return float((g_a + 1) * (g_b + 1) * ratio / ((g_a + g_b + 1) * max(step_a, step_b)))
