"""How the ground moves between frames: what the camera does, measured on everything that is not a thing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from goku_cli.shapes.scene import CAMERA_SPEED

STILL = 0.4
"""A camera slower than this share of the world's camera speed rests."""
_WILD = 2.5

_ECC = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)


@dataclass(frozen=True)
class Drift:
    """Rates of the camera: pan (to the right) and tilt (down) in heights per second, zoom in e-folds per second."""

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
    """Median rates over consecutive pairs of frames, each uint8 RGB (h, w, 3), things masked by alpha (h, w).

    None when the ground cannot be followed in three pairs of four, as in noise or where it has no texture.
    """
    grounds = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    grown = np.ones((5, 5), np.uint8)
    things = [cv2.dilate((alpha > 0.1).astype(np.uint8), grown) for alpha in alphas]
    steps = [
        step
        for i in range(len(grounds) - 1)
        if (step := _step(grounds[i], grounds[i + 1], 1 - (things[i] | things[i + 1]))) is not None
    ]
    if len(steps) < max(1, 0.75 * (len(grounds) - 1)):
        return None
    pan, tilt, zoom = np.median(steps, axis=0) * fps
    return Drift(float(pan), float(tilt), float(zoom))


def _step(before: np.ndarray, after: np.ndarray, ground: np.ndarray) -> tuple[float, float, float] | None:
    """(pan, tilt, zoom) from one frame to the next by Evangelidis and Psarakis' ECC alignment (PAMI 2008)."""
    height, width = before.shape
    warp = np.eye(2, 3, dtype=np.float32)
    try:
        fit, found = cv2.findTransformECC(before, after, warp, cv2.MOTION_AFFINE, _ECC, ground, 3)
    except cv2.error:  # no texture to follow, or no convergence
        return None
    if fit < 0.5:
        return None
    # The warp moves ground points; the camera moves the other way. Its effect on the frame's centre is the pan.
    centre = np.array([width / 2, height / 2])
    moved = found[:, :2] @ centre + found[:, 2] - centre
    size = abs(float(np.linalg.det(found[:, :2])))
    return -moved[0] / height, -moved[1] / height, 0.5 * math.log(max(size, 1e-6))
