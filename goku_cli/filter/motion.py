"""Movement: how much, how shaky, or none at all. Pixels are those of a frame with a short side of 480."""

import itertools

import cv2
import numpy as np

from goku_cli.filter.sampled import SampledClip
from goku_cli.media.motion.flow import optical_flow, translation
from goku_cli.media.motion.motion import motion_score

NOISE = 6.0
"""Difference of blurred luma, of 255, that grain and compression leave between equal frames."""
BLUR = 2.0
LIVELIEST = 99.8
"""Percentile of the picture that decides: a small thing that moves on a still ground is movement."""


def dis_flow(clip: SampledClip) -> float:
    """Mean length of the optical flow over a quarter of a second, in pixels."""
    return motion_score(clip.grey)


def shake(clip: SampledClip) -> float:
    """Mean length of the second difference of the camera's position from sample to sample, in pixels.

    A steady pan has none, however fast it is; a hand that trembles at more than a few hertz has much. Frames of half
    the size are enough: a trembling that matters is longer than a pixel of them.
    """
    halves = [cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for grey in clip.grey]
    steps = np.array([translation(optical_flow(*pair)) for pair in itertools.pairwise(halves)])
    if len(steps) < 2:
        return 0.0
    return 2 * clip.to_reference * float(np.linalg.norm(np.diff(steps, axis=0), axis=1).mean())


def frozen(clip: SampledClip) -> float:
    """Share of neighbouring samples that are the same picture but for noise."""
    same = [_liveliest(a, b) < NOISE for a, b in clip.pairs(1)]
    return float(np.mean(same)) if same else 0.0


def _liveliest(before: np.ndarray, after: np.ndarray) -> float:
    a, b = (cv2.GaussianBlur(grey.astype(np.float32), (0, 0), BLUR) for grey in (before, after))
    return float(np.percentile(np.abs(a - b), LIVELIEST))


def layout_similarity(clip: SampledClip) -> float:
    """Least cosine similarity of neighbours a second apart, on the layout feature; 1 for a clip of one second."""
    features = clip.layouts
    return min((float(a @ b) for a, b in itertools.pairwise(features)), default=1.0)
