"""Precision and recall: which samples lie among real pictures, and which real ones among samples.

A set's manifold is the balls around its features that reach to the third neighbor (Kynkaanniemi et al. 2019).

Shapes: N samples and M real pictures of D features.
"""

from collections.abc import Iterator

import numpy as np

NEIGHBOR = 3
ROWS = 512
"""Rows of distances that are held at once."""


def precision_recall(samples_ND: np.ndarray, real_MD: np.ndarray) -> tuple[float, float]:
    """Return the share of samples on the real manifold, and of real pictures on that of the samples.

    Each side needs at least four.
    """
    return _inside(samples_ND, real_MD), _inside(real_MD, samples_ND)


def _inside(points_ND: np.ndarray, balls_MD: np.ndarray) -> float:
    # A ball's own distance to itself, 0, is the first; so the third neighbor is at place 3.
    radii_M = np.concatenate([np.partition(rows, NEIGHBOR, 1)[:, NEIGHBOR] for rows in _squares(balls_MD, balls_MD)])
    inside_N = [(rows <= radii_M).any(1) for rows in _squares(points_ND, balls_MD)]
    return float(np.concatenate(inside_N).mean())


def _squares(a_ND: np.ndarray, b_MD: np.ndarray) -> Iterator[np.ndarray]:
    """Yield squared distances, some rows at a time, in float64: in float32 near neighbors would be lost."""
    b_MD = b_MD.astype(np.float64)
    b_M = np.square(b_MD).sum(1)
    for start in range(0, len(a_ND), ROWS):
        a_PD = a_ND[start : start + ROWS].astype(np.float64)
        yield np.square(a_PD).sum(1)[:, None] + b_M - 2 * a_PD @ b_MD.T
