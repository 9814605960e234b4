"""Which of the detector's cuts are true: a flash, a strobe or a change of light shows the same picture again.

Two shots show nothing alike on the two sides of their cut; a flash shows before it what it shows after it.
"""

import numpy as np

BESIDE = 4
"""Frames that are compared on either side of a cut."""
SAME_GRAY = 0.85
"""Correlation of two gray pictures of one scene, whatever the light."""
SAME_COLOR = 14.0
"""Root mean square difference of their colors (Lab a and b of 8 bits)."""


def true_cuts(cuts: list[int], gray: np.ndarray, colors: np.ndarray) -> list[int]:
    """Return the cuts on whose sides no two pictures are of one scene; gray (N, 32, 32), colors (N, 8, 8, 3) Lab."""
    return [cut for cut in cuts if not _same_scene(cut, gray, colors)]


def _same_scene(cut: int, gray: np.ndarray, colors: np.ndarray) -> bool:
    before, after = slice(max(0, cut - BESIDE), cut), slice(cut, cut + BESIDE)
    alike = _unit(gray[before]) @ _unit(gray[after]).T
    shades = colors[..., 1:].reshape(len(colors), -1)
    apart = shades[before].astype(np.float32)[:, None] - shades[after].astype(np.float32)[None]
    return bool(np.any((alike > SAME_GRAY) & (np.sqrt(np.mean(apart**2, 2)) < SAME_COLOR)))


def _unit(gray: np.ndarray) -> np.ndarray:
    flat = gray.reshape(len(gray), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
