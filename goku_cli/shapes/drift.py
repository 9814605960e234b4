"""Camera motion of a synthetic clip, measured on everything that is not a shape.

One pan, tilt and zoom is fitted to all consecutive pairs of frames together (Gauss-Newton on the brightness
constancy equation), because the world's cameras keep their speed and one pair alone drowns in grain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from goku_cli.shapes.scene import CAMERA_SPEED

STILL = 0.4
"""A camera slower than this share of the world's camera speed rests."""
_WILD = 2.5
_FOLLOWED = 0.5
_TEXTURE = 0.5
_BLURS = (0.05, 0.02)


@dataclass(frozen=True)
class Drift:
    """A camera's rates: pan (right) and tilt (down) in heights per second, zoom in e-folds per second."""

    pan: float = 0.0
    tilt: float = 0.0
    zoom: float = 0.0

    @property
    def kind(self) -> str | None:
        """One of scene.CAMERAS, or None for a movement that the world does not have."""
        strengths = {
            "pan right": self.pan / CAMERA_SPEED,
            "pan left": -self.pan / CAMERA_SPEED,
            "zoom in": self.zoom / math.log1p(CAMERA_SPEED),
            "zoom out": -self.zoom / math.log1p(CAMERA_SPEED),
            "tilt": abs(self.tilt) / CAMERA_SPEED,
        }
        kind = max(strengths, key=strengths.__getitem__)
        if strengths[kind] < STILL:
            return "static"
        return None if kind == "tilt" or strengths[kind] > _WILD else kind


def measure_drift(frames: Sequence[np.ndarray], alphas: Sequence[np.ndarray], fps: float) -> Drift | None:
    """The camera's rates over a clip of uint8 RGB frames (h, w, 3) whose things are masked by alpha (h, w).

    None when the ground cannot be followed: noise, a cut, or no texture at all.
    """
    height, width = alphas[0].shape
    masks = _ground_masks(alphas)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in frames]
    # Content moves by (x, y) pixels and grows by e^zoom per step. Coarse blur first: long steps converge.
    step = np.zeros(3)
    for blur in _BLURS:
        soft = [cv2.GaussianBlur(image, (0, 0), blur * height) for image in grey]
        for _ in range(4):
            step = step + _improve(soft, masks, step)
        if not np.isfinite(step).all() or abs(step[:2]).max() > width / 4 or abs(step[2]) > 0.5:
            return None
    if _likeness(soft, masks, step) < _FOLLOWED:
        return None
    return Drift(
        float(-step[0] / height * fps),
        float(-step[1] / height * fps),
        float(step[2] * fps),
    )


def _ground_masks(alphas: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Where both frames of each pair show ground, away from the border: bool (h, w)."""
    height = alphas[0].shape[0]
    size = 2 * round(0.06 * height) + 1
    kernel = np.ones((size, size), np.uint8)
    things = [cv2.dilate((alpha > 0.3).astype(np.uint8), kernel) > 0 for alpha in alphas]
    inner = np.zeros(alphas[0].shape, bool)
    inner[size // 2 : -(size // 2), size // 2 : -(size // 2)] = True
    return [inner & ~(before | after) for before, after in pairwise(things)]


def _improve(images: Sequence[np.ndarray], masks: Sequence[np.ndarray], step: np.ndarray) -> np.ndarray:
    height, width = images[0].shape
    x = np.arange(width, dtype=np.float32)[None, :] - (width - 1) / 2
    y = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2
    normal, right = np.zeros((3, 3)), np.zeros(3)
    for i, mask in enumerate(masks):
        after = _pull_back(images[i + 1], step)
        slope_y, slope_x = np.gradient((images[i] + after) / 2)
        slopes = np.stack([slope_x, slope_y, slope_x * x + slope_y * y])[:, mask]
        normal += slopes @ slopes.T
        right += slopes @ (images[i] - after)[mask]
    # Without texture the equations are singular; the least-norm answer, no movement, is the honest one.
    return np.linalg.lstsq(normal, right, rcond=1e-6)[0]


def _pull_back(image: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Undo one step of movement: where a point was before, in the coordinates of the frame before."""
    height, width = image.shape
    scale = math.exp(step[2])
    offset = step[:2] + (1 - scale) * np.array([(width - 1) / 2, (height - 1) / 2])
    warp = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, warp, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _likeness(images: Sequence[np.ndarray], masks: Sequence[np.ndarray], step: np.ndarray) -> float:
    """Correlation of the ground with itself one step later, the step undone; 0 where it has no texture."""
    found = []
    for i, mask in enumerate(masks):
        before, after = images[i][mask], _pull_back(images[i + 1], step)[mask]
        if mask.sum() < 16 or min(before.std(), after.std()) < _TEXTURE:
            return 0.0
        found.append(np.corrcoef(before, after)[0, 1])
    return float(np.median(found))
