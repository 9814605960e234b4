"""Figures of a clip that need no weights: how still, how moving, how sharp, and whether it is what was asked for.

Each function takes frames (T, H, W, 3) uint8 RGB. Names never borrow a benchmark's name for a substitute.
"""

import itertools

import cv2
import numpy as np

from goku_cli.media.flow import optical_flow

FLOW_SIDE = 256
SAMPLED_FPS = 8.0


def flicker(frames: np.ndarray) -> float:
    """Return (255 - mean |f_t - f_t+1|) / 255: 1 is a still picture (the rule of VBench's temporal flickering)."""
    steps = np.abs(np.diff(frames.astype(np.int16), axis=0))
    return float((255 - steps.mean()) / 255)


def moves(frames: np.ndarray, fps: float) -> float:
    """Return 1 when enough of the picture moves, else 0: VBench's dynamic-degree rule on DIS flow instead of RAFT.

    At about 8 frames per second, the mean of the fastest 5 % of the flow must exceed 6 pixels of a 256-pixel
    frame in a quarter of the pairs.
    """
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[:: max(1, round(fps / SAMPLED_FPS))]]
    scale = FLOW_SIDE / min(grey[0].shape)
    grey = [cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for image in grey]
    fast = 0
    for before, after in itertools.pairwise(grey):
        size = np.sort(np.linalg.norm(optical_flow(before, after), axis=2), axis=None)
        fast += size[-max(1, len(size) // 20) :].mean() > 6
    return float(fast >= round(4 * len(grey) / 16))


def sharpness(frames: np.ndarray) -> float:
    """Return the variance of the Laplacian of the middle frame's luma (Pech-Pacheco et al. 2000)."""
    grey = cv2.cvtColor(frames[len(frames) // 2], cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())
