"""Layout features: a frame in a few hundred numbers, of color positions and edge directions.

The embedded stand-in for a learned image feature such as DINOv2: it knows nothing of what is shown, but neighbours
of one shot are alike and two scenes are not. It needs no weights and takes half a millisecond.
"""

import cv2
import numpy as np

GRID = 8
ANGLES = 8
_EDGE_GRID = 4
_EDGE_WEIGHT = 0.6
_CONSTANT = 1.0
"""Weight of a part that all frames share. Without it two nearly even frames, in which a small thing moved, would
differ as much as two scenes, because the cosine knows no magnitude."""


def cells(frame: np.ndarray) -> np.ndarray:
    """Return the mean CIE Lab color of an 8x8 grid of a uint8 RGB frame, uint8 (8, 8, 3) as OpenCV scales it."""
    small = cv2.resize(frame, (GRID, GRID), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2LAB)


def layout(frame: np.ndarray) -> np.ndarray:
    """Return the feature of a uint8 RGB frame (H, W, 3): float32 (321,), of length 1."""
    color = (cells(frame).astype(np.float32) - 128) / (128, 40, 40)
    parts = (color.ravel() / GRID, _EDGE_WEIGHT * _edges(frame).ravel() / _EDGE_GRID, [_CONSTANT])
    feature = np.concatenate(parts).astype(np.float32)
    return feature / np.linalg.norm(feature)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Return the cosine of two features: 1 for the same frame; below about 0.8 for different scenes."""
    return float(one @ other)


def color_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the root mean square difference of two grids of `cells`, in CIE Lab units of 8 bits."""
    return float(np.sqrt(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2)))


def _edges(frame: np.ndarray) -> np.ndarray:
    """Return a histogram of edge directions weighted by strength, float (4, 4, 8), about 1 per busy cell."""
    grey = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength, angle = cv2.cartToPolar(across, down)
    bins = ((angle % np.pi) * (ANGLES / np.pi)).astype(int) % ANGLES
    side = 64 // _EDGE_GRID
    place = np.arange(64) // side
    index = (place[:, None] * _EDGE_GRID + place[None, :]) * ANGLES + bins
    total = np.bincount(index.ravel(), strength.ravel(), minlength=_EDGE_GRID**2 * ANGLES)
    return np.sqrt(total / (side**2 * 255)).reshape(_EDGE_GRID, _EDGE_GRID, ANGLES)
