"""Find the colored things in one frame, without weights: chroma, connected components, templates of every shape.

The ground is grey, so a pixel's chroma (its color less its own mean) is zero there whatever the light is, and along
a thing's antialiased edge it shrinks without turning. How far it reaches towards a palette color is the soft alpha.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from goku_cli.shapes.render import coverage
from goku_cli.shapes.scene import PALETTE, SHAPES

WORK_HEIGHT = 96
"""Larger frames are shrunk to this many rows: the shapes stay large and the time stays short."""

FOREGROUND = 0.4
"""The alpha from which a pixel belongs to a thing."""
MIN_AREA = 0.006
"""In square heights: a quarter of the smallest shape of the world."""
MAX_SHARE = 0.3
"""A frame with more of it colored than this shows no scene of this world (the fullest scene colors 12 %)."""

_COLORS = tuple(PALETTE)
_CHROMA = np.array([np.subtract(rgb, np.mean(rgb)) for rgb in PALETTE.values()], np.float32)
_LENGTH = np.linalg.norm(_CHROMA, axis=1)
_HUE = _CHROMA / _LENGTH[:, None]


@dataclass(frozen=True)
class Blob:
    """One connected colored region; x, y and radius in heights."""

    color: str
    purity: float
    """How much the hues inside agree: 1 for one hue, near 0 for a rainbow."""
    shape: str
    overlaps: dict[str, float]
    """Soft intersection over union with each shape of the same area and place."""
    x: float
    y: float
    radius: float
    mass: float
    """The sum of alpha, in square heights."""

    @property
    def overlap(self) -> float:
        """The overlap with the shape that fits best."""
        return self.overlaps[self.shape]


@dataclass(frozen=True)
class Look:
    """What one frame shows: blobs from large to small, and how much of the colored mass they account for."""

    blobs: tuple[Blob, ...]
    alpha: np.ndarray
    """(h, w) float32 at the working size."""
    explained: float
    """The share of the colored mass that lies under the best templates of the blobs."""


def shrink(frame: np.ndarray) -> np.ndarray:
    """The frame at no more than WORK_HEIGHT rows, uint8 RGB (h, w, 3)."""
    height, width = frame.shape[:2]
    if height <= WORK_HEIGHT:
        return frame
    return cv2.resize(frame, (round(width * WORK_HEIGHT / height), WORK_HEIGHT), interpolation=cv2.INTER_AREA)


def look(frame: np.ndarray) -> Look:
    """Find every thing in a uint8 RGB frame (H, W, 3). Chaos and an even color yield no blobs."""
    small = shrink(frame).astype(np.float32)
    chroma = small - small.mean(axis=2, keepdims=True)
    alpha = _alpha(chroma)
    inside = alpha > FOREGROUND
    if not inside.any() or inside.mean() > MAX_SHARE:
        return Look((), alpha, 0.0)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=4)
    blobs, explained = [], np.zeros_like(alpha)
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] < MIN_AREA * alpha.shape[0] ** 2:
            continue
        blob, cover = _blob(alpha, chroma, labels == label, stats[label])
        blobs.append(blob)
        np.maximum(explained, cover, out=explained)
    # Faint chroma everywhere (compression, a model's haze) is not a thing, hence the cut at half the threshold.
    mass = np.where(alpha > FOREGROUND / 2, alpha, 0)
    share = float(np.minimum(mass, explained).sum() / mass.sum())
    return Look(tuple(sorted(blobs, key=lambda blob: -blob.mass)), alpha, share)


def _alpha(chroma: np.ndarray) -> np.ndarray:
    towards = chroma @ _HUE.T
    nearest = towards.argmax(axis=2)
    reach = np.take_along_axis(towards, nearest[..., None], axis=2)[..., 0]
    return np.clip(reach / _LENGTH[nearest], 0.0, 1.0)


def _blob(
    alpha: np.ndarray, chroma: np.ndarray, member: np.ndarray, stats: np.ndarray
) -> tuple[Blob, np.ndarray]:
    # The soft edge outside the threshold belongs to the blob too, so its crop and mask grow by two pixels.
    height, width = alpha.shape
    left, top = max(stats[cv2.CC_STAT_LEFT] - 2, 0), max(stats[cv2.CC_STAT_TOP] - 2, 0)
    right = min(stats[cv2.CC_STAT_LEFT] + stats[cv2.CC_STAT_WIDTH] + 2, width)
    bottom = min(stats[cv2.CC_STAT_TOP] + stats[cv2.CC_STAT_HEIGHT] + 2, height)
    window = np.s_[top:bottom, left:right]
    grown = cv2.dilate(member[window].astype(np.uint8), np.ones((3, 3), np.uint8), iterations=2)
    soft = alpha[window] * grown
    rows, columns = np.mgrid[0 : bottom - top, 0 : right - left] + 0.5
    mass = float(soft.sum())
    x, y = float((soft * columns).sum() / mass), float((soft * rows).sum() / mass)
    covers = {shape: coverage(shape, *soft.shape, x, y, math.sqrt(mass / _AREA[shape])) for shape in SHAPES}
    overlaps = {
        shape: float(np.minimum(soft, cover).sum() / np.maximum(soft, cover).sum())
        for shape, cover in covers.items()
    }
    shape = max(overlaps, key=overlaps.__getitem__)
    hue = chroma[member].sum(axis=0)
    cover = np.zeros_like(alpha)
    cover[window] = covers[shape]
    return Blob(
        color=_COLORS[int((_HUE @ hue).argmax())],
        purity=float(np.linalg.norm(hue) / np.linalg.norm(chroma[member], axis=1).sum()),
        shape=shape,
        overlaps=overlaps,
        x=(x + float(left)) / height,
        y=(y + float(top)) / height,
        radius=math.sqrt(mass / _AREA[shape]) / height,
        mass=mass / height**2,
    ), cover


def _area(shape: str) -> float:
    return float(coverage(shape, 300, 300, 150, 150, 100).sum()) / 100**2


_AREA = {shape: _area(shape) for shape in SHAPES}
"""The area of each shape at radius 1, measured on its own template."""
