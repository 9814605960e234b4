"""Find the colored things in one frame without weights: chroma, connected components, shape templates.

The ground is grey, so a pixel's chroma (its color less its own mean) is zero there whatever the light is, and
along a thing's antialiased edge it shrinks without turning. Its reach towards a palette color is the alpha.
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
HAZE = 0.3
"""The alpha below which a pixel counts as bare ground."""
MIN_AREA = 0.006
"""In square heights: a quarter of the smallest shape of the world."""
MAX_SHARE = 0.3
"""A frame with more of it colored than this shows no scene of this world (the fullest scene colors 12 %)."""

_BLURS = (0.015, 0.03)
"""In heights: how far a small codec or a young model smears an edge without changing the shape."""

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
    """How well each shape of the same area and place fits: soft intersection over union."""
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
    # Grain and compression leave some chroma everywhere, which is no thing.
    mass = np.where(alpha > HAZE, alpha, 0)
    share = float(np.minimum(mass, explained).sum() / mass.sum())
    return Look(tuple(sorted(blobs, key=lambda blob: -blob.mass)), alpha, share)


def _alpha(chroma: np.ndarray) -> np.ndarray:
    towards = chroma @ _HUE.T
    nearest = towards.argmax(axis=2)
    reach = np.take_along_axis(towards, nearest[..., None], axis=2)[..., 0]
    return np.clip(reach / _LENGTH[nearest], 0.0, 1.0)


def _blob(alpha: np.ndarray, chroma: np.ndarray, member: np.ndarray, stats: np.ndarray) -> tuple[Blob, np.ndarray]:
    """The blob of one component, and its best template (h, w) in its place."""
    height, width = alpha.shape
    # The soft edge outside the threshold belongs to the blob too, so its window and mask grow.
    reach = max(2, round(_BLURS[-1] * height))
    left, top = max(stats[cv2.CC_STAT_LEFT] - reach, 0), max(stats[cv2.CC_STAT_TOP] - reach, 0)
    right = min(stats[cv2.CC_STAT_LEFT] + stats[cv2.CC_STAT_WIDTH] + reach, width)
    bottom = min(stats[cv2.CC_STAT_TOP] + stats[cv2.CC_STAT_HEIGHT] + reach, height)
    window = np.s_[top:bottom, left:right]
    grown = cv2.dilate(member[window].astype(np.uint8), np.ones((3, 3), np.uint8), iterations=reach)
    soft = alpha[window] * grown
    rows, columns = np.mgrid[0 : bottom - top, 0 : right - left] + 0.5
    mass = float(soft.sum())
    x, y = float((soft * columns).sum() / mass), float((soft * rows).sum() / mass)
    fits = {name: _fit(soft, name, x, y, mass, height) for name in SHAPES}
    shape = max(fits, key=lambda name: fits[name][0])
    hue = chroma[member].sum(axis=0)
    cover = np.zeros_like(alpha)
    cover[window] = fits[shape][1]
    return Blob(
        color=_COLORS[int((_HUE @ hue).argmax())],
        purity=float(np.linalg.norm(hue) / np.linalg.norm(chroma[member], axis=1).sum()),
        shape=shape,
        overlaps={name: overlap for name, (overlap, _) in fits.items()},
        x=(x + float(left)) / height,
        y=(y + float(top)) / height,
        radius=math.sqrt(mass / _AREA[shape]) / height,
        mass=mass / height**2,
    ), cover


def _fit(soft: np.ndarray, shape: str, x: float, y: float, mass: float, height: int) -> tuple[float, np.ndarray]:
    """Soft intersection over union with a shape of the same area and place, and that template; best blur."""
    crisp = coverage(shape, soft.shape[0], soft.shape[1], x, y, math.sqrt(mass / _AREA[shape]))
    covers = [crisp, *(cv2.GaussianBlur(crisp, (0, 0), blur * height) for blur in _BLURS)]
    overlaps = [float(np.minimum(soft, cover).sum() / np.maximum(soft, cover).sum()) for cover in covers]
    best = int(np.argmax(overlaps))
    return overlaps[best], covers[best]


def _area(shape: str) -> float:
    return float(coverage(shape, 300, 300, 150, 150, 100).sum()) / 100**2


_AREA = {shape: _area(shape) for shape in SHAPES}
"""The area of each shape at radius 1, measured on its own template."""
