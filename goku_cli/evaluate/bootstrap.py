"""Bootstrap intervals: the 95 % interval of a mean, by resampling (Efron 1979)."""

from collections.abc import Sequence

import numpy as np

from goku_cli.evaluate.result import OWN, Figure

RESAMPLES = 2000
SEED = 0
LEVEL = 95.0
AT_ONCE = 2_000_000
"""Numbers of a batch of resamples."""


def interval(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """Return both ends of the percentile bootstrap interval of the mean, or None twice for fewer than two values.

    Values of pairs, such as differences, give the interval of the paired difference.
    """
    if len(values) < 2:
        return None, None
    x_N = np.asarray(values, np.float64)
    rng = np.random.default_rng(SEED)
    rows = max(1, AT_ONCE // len(x_N))
    parts = [
        x_N[rng.integers(0, len(x_N), (min(rows, RESAMPLES - start), len(x_N)))].mean(1)
        for start in range(0, RESAMPLES, rows)
    ]
    low, high = np.percentile(np.concatenate(parts), [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def mean_figure(
    metric: str, values: Sequence[float], tag: str = "all", implementation: str = OWN, weights: str = "",
    license: str = Figure.license,
) -> Figure:  # fmt: skip
    """Return the mean of scores as a figure, with its interval."""
    low, high = interval(values)
    return Figure(metric, float(np.mean(values)), len(values), tag, low, high, implementation, weights, license)
