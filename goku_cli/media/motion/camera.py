"""Camera motion of a clip: pan, tilt, zoom and roll, measured on the motion of most of the picture.

Corners are followed from frame to frame (Lucas and Kanade 1981, pyramids; kept when following them back leads home),
and one similarity transform is fitted to each pair of frames by RANSAC, so that a thing that moves in front is an
outlier. What the picture does, the camera does the other way: when it pans right, the picture moves left.

Rates are per second. Pan (right) and tilt (down) are in frame heights, zoom in e-folds, roll (clockwise) in radians.
Zoom and roll are weighed by what they move at the mean distance from the center, so that all four compare.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

STILL = 0.015
"""Frame heights per second below which a camera stands: 7 pixels of 480 in a second."""
SHARE = 0.5
"""A second movement is named when it is this share of the strongest."""
STEADY = 0.6
"""Least share of the way that leads anywhere: a camera that goes to and fro has no direction."""
SHAKY = 0.06
"""Heights per second of unsteady movement above which a standing camera is held by hand."""
FOLLOWED = 0.6
"""Least share of the pairs of frames that must be understood."""
PACES = ((0.08, "slowly"), (0.35, ""), (math.inf, "quickly"))
NAMES = {
    "pan": ("pan left", "pan right"),
    "tilt": ("tilt up", "tilt down"),
    "zoom": ("zoom out", "zoom in"),
    "roll": ("roll counter-clockwise", "roll clockwise"),
}
"""Axis -> what a negative and a positive rate are called."""
STATIC, HANDHELD = "static", "handheld"
_VERBS = {"pan": "pans", "tilt": "tilts", "zoom": "zooms", "roll": "rolls"}
_CORNERS, _LEAST_CORNERS, _SIDE = 1000, 20, 240
_CELLS, _PER_CELL = 8, 5
_HOME, _TOLERANCE = 1.0, 1.5


@dataclass(frozen=True)
class Camera:
    """A camera's rates over a clip; `None` of them is known when the picture could not be followed."""

    pan: float = 0.0
    tilt: float = 0.0
    zoom: float = 0.0
    roll: float = 0.0
    shake: float = 0.0
    """Heights per second that lead nowhere."""
    steadiness: float = 1.0
    """Share of the way that leads somewhere."""
    aspect: float = 16 / 9

    @property
    def strengths(self) -> dict[str, float]:
        """Each movement's rate, signed, in frame heights per second."""
        reach = math.hypot(self.aspect, 1) / 4  # about the mean distance of a pixel from the center
        return {"pan": self.pan, "tilt": self.tilt, "zoom": self.zoom * reach, "roll": self.roll * reach}

    @property
    def strength(self) -> float:
        """The strongest movement, in frame heights per second."""
        return max(abs(rate) for rate in self.strengths.values())

    @property
    def movements(self) -> tuple[str, ...]:
        """Return e.g. ("pan left", "zoom in"), ("static",), ("handheld",); empty for a camera that goes to and fro."""
        if self.strength < STILL:
            return (HANDHELD,) if self.shake > SHAKY else (STATIC,)
        if self.steadiness < STEADY:
            return (HANDHELD,) if self.shake > SHAKY else ()
        ordered = sorted(self.strengths.items(), key=lambda entry: -abs(entry[1]))
        least = max(STILL, SHARE * self.strength)
        return tuple(NAMES[axis][rate > 0] for axis, rate in ordered if abs(rate) >= least)

    @property
    def sentence(self) -> str:
        """Return e.g. "the camera pans left slowly and zooms in"; an empty string when nothing is known."""
        if not self.movements:
            return ""
        if self.movements == (STATIC,):
            return "the camera stands still"
        if self.movements == (HANDHELD,):
            return "the camera is held by hand"
        moves = [f"{_VERBS[name.split()[0]]} {name.split()[1]}" for name in self.movements]
        pace = next(word for limit, word in PACES if self.strength < limit)
        return f"the camera {' and '.join(moves)} {pace}".rstrip()


def measure_camera(frames: Sequence[np.ndarray], fps: float) -> Camera | None:
    """Return what the camera does over grey uint8 frames (H, W) that are 1 / fps apart; None when it cannot be told."""
    small = [_shrunk(frame) for frame in frames]
    steps = [_step(before, after) for before, after in itertools.pairwise(small)]
    known = np.array([step for step in steps if step is not None])
    if not len(known) or len(known) < FOLLOWED * len(steps):
        return None
    height, width = frames[0].shape
    rates = known * fps
    pan, tilt, zoom, roll = (float(rate) for rate in np.median(rates, axis=0))
    camera = Camera(pan, tilt, zoom, roll, aspect=width / height)
    reach = math.hypot(camera.aspect, 1) / 4
    lengths = np.linalg.norm(rates * [1, 1, reach, reach], axis=1)
    net = float(np.linalg.norm(rates.mean(axis=0) * [1, 1, reach, reach]))
    stray = np.linalg.norm(rates[:, :2] - np.median(rates[:, :2], axis=0), axis=1)
    return Camera(
        pan, tilt, zoom, roll, shake=float(stray.mean()), steadiness=net / max(float(lengths.mean()), 1e-9),
        aspect=camera.aspect,
    )  # fmt: skip


def _shrunk(frame: np.ndarray) -> np.ndarray:
    scale = _SIDE / min(frame.shape)
    return frame if scale >= 1 else cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _step(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return the camera's (pan, tilt, zoom, roll) from one frame to the next, or None when too little was followed."""
    height, width = before.shape
    corners = _corners(before)
    if len(corners) < _LEAST_CORNERS:
        return None
    size, levels = (21, 21), max(1, int(math.log2(height / 15)))
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, corners, np.empty_like(corners), winSize=size, maxLevel=levels
    )
    back, returned, _ = cv2.calcOpticalFlowPyrLK(
        after, before, there, np.empty_like(corners), winSize=size, maxLevel=levels
    )
    home = np.linalg.norm((back - corners).reshape(-1, 2), axis=1) < _HOME
    kept = home & (found.ravel() == 1) & (returned.ravel() == 1)
    if kept.sum() < _LEAST_CORNERS:
        return None
    middle = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    source, target = ((points.reshape(-1, 2) - middle)[kept] for points in (corners, there))
    cv2.setRNGSeed(0)
    matrix, inliers = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=_TOLERANCE)
    if matrix is None or inliers.sum() < max(_LEAST_CORNERS / 2, 0.3 * len(source)):
        return None
    (cosine, _, x), (sine, _, y) = matrix
    return -x / height, -y / height, math.log(math.hypot(cosine, sine)), -math.atan2(sine, cosine)


def _corners(frame: np.ndarray) -> np.ndarray:
    """Return corners (N, 1, 2) from all over the picture: a thing with much texture has no more than its place."""
    height, width = frame.shape
    corners = cv2.goodFeaturesToTrack(frame, _CORNERS, 0.0005, max(3, height // 40))
    if corners is None:
        return np.empty((0, 1, 2), np.float32)
    cells = (corners.reshape(-1, 2) * _CELLS // [width, height]).astype(int) @ [1, _CELLS]
    kept = [np.flatnonzero(cells == cell)[:_PER_CELL] for cell in range(_CELLS * _CELLS)]  # the best come first
    return corners[np.concatenate(kept)]
