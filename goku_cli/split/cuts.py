"""Validation of a detector's cuts: after a flash, a strobe or a change of light the same picture returns.

Two shots show nothing alike on the two sides of their cut; a flash shows before it what it shows after it.
"""

import numpy as np

BESIDE, BESIDE_US = 4, 500_000
"""Frames that are compared on either side of a cut: a flash is not longer."""
SAME_GRAY = 0.85
"""Correlation of two gray pictures of one scene, whatever the light."""
SAME_COLOR = 14.0
"""Root mean square difference of their colors (Lab a and b of 8 bits)."""


def true_cuts(cuts: list[int], times_us: np.ndarray, gray: np.ndarray, colors: np.ndarray) -> list[int]:
    """Return the cuts on whose sides no two pictures are of one scene; gray (N, 32, 32), colors (N, 8, 8, 3) Lab."""
    return [cut for cut in cuts if not _same_scene(*_sides(cut, times_us), gray, colors)]


def _sides(cut: int, times_us: np.ndarray) -> tuple[slice, slice]:
    """Return the frames that are on screen shortly before a cut, and shortly after it."""
    first = cut - 1  # until the cut
    while first > max(0, cut - BESIDE) and times_us[first] > times_us[cut] - BESIDE_US:
        first -= 1
    near = times_us[cut : cut + BESIDE] < times_us[cut] + BESIDE_US
    return slice(first, cut), slice(cut, cut + int(near.sum()))


def _same_scene(before: slice, after: slice, gray: np.ndarray, colors: np.ndarray) -> bool:
    alike = _unit(gray[before]) @ _unit(gray[after]).T
    shades = colors[..., 1:].reshape(len(colors), -1)
    apart = shades[before].astype(np.float32)[:, None] - shades[after].astype(np.float32)[None]
    return bool(np.any((alike > SAME_GRAY) & (np.sqrt(np.mean(apart**2, 2)) < SAME_COLOR)))


def _unit(gray: np.ndarray) -> np.ndarray:
    flat = gray.reshape(len(gray), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
