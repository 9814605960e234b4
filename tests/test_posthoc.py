"""Averages made after the training are those that would have been kept during it."""

import numpy as np
import pytest

from goku_cli.errors import UsageError
from goku_cli.model.weights.posthoc import coefficients, exponent_of, share


def averages(walk: np.ndarray, length: float) -> np.ndarray:
    """Return the power-function average after every step, kept as training keeps it."""
    exponent, value, found = exponent_of(length), 0.0, []
    for step, x in enumerate(walk, 1):
        value += share(exponent, step) * (x - value)
        found.append(value)
    return np.array(found)


def test_exponents_are_those_of_the_paper():
    assert exponent_of(0.05) == pytest.approx(16.97, abs=0.01)
    assert exponent_of(0.10) == pytest.approx(6.94, abs=0.01)
    with pytest.raises(UsageError, match="between"):
        exponent_of(0.5)


@pytest.mark.parametrize("length", [0.05, 0.07, 0.10, 0.13])
def test_an_average_of_any_length_is_fitted_from_snapshots_of_two(length):
    walk = np.random.default_rng(0).normal(size=4_000).cumsum()
    kept = {one: averages(walk, one) for one in (0.05, 0.10)}
    steps = range(250, 4_001, 250)
    have = [(step, exponent_of(one)) for step in steps for one in kept]
    values = [kept[one][step - 1] for step in steps for one in kept]
    made = float(coefficients(have, (4_000, exponent_of(length))) @ values)
    wanted = averages(walk, length)[-1]
    assert abs(made - wanted) < 0.02 * walk.std()
    assert abs(walk[-1] - wanted) > 0.1 * walk.std()  # it is not just the newest weights
