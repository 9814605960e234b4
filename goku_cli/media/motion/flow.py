"""Optical flow between two frames, by dense inverse search (Kroeger et al. 2016) in OpenCV."""

import math

import cv2
import numpy as np

CHANGE = 3.0
"""Least change of blurred luma, of 255, that is not taken for noise."""
BLUR = 3.0
LOWEST = 32
"""Pixels of the shorter side: of some lower pictures OpenCV's DIS ends the process."""
REACH = 8
"""A pixel can move when something changed within this fraction of the frame's height (1/8) of it."""


def optical_flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the flow (H, W, 2) float32 in pixels, x to the right and y down, between uint8 grey frames.

    Where nothing changes but noise the flow is 0: on flat ground the method follows the grain, and a picture
    that stands still would seem to move.
    """
    if (times := math.ceil(LOWEST / min(before.shape))) > 1:
        large = [cv2.resize(x, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC) for x in (before, after)]
        return cv2.resize(optical_flow(*large), before.shape[::-1], interpolation=cv2.INTER_AREA) / times
    engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = np.zeros((*before.shape, 2), np.float32)
    return engine.calc(before, after, flow) * changing(before, after)[..., None]


def magnitude(flow: np.ndarray) -> float:
    """Return the mean length of the flow in pixels."""
    return float(np.linalg.norm(flow, axis=2).mean())


def translation(flow: np.ndarray) -> tuple[float, float]:
    """Return the median movement (x, y) in pixels: what the camera does when most of the picture is ground."""
    return float(np.median(flow[..., 0])), float(np.median(flow[..., 1]))


def changing(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return where a pixel can have moved (H, W) float32: 1 near what changed by more than noise, else 0."""
    smooth = [cv2.GaussianBlur(frame.astype(np.float32), (0, 0), BLUR) for frame in (before, after)]
    changed = (np.abs(smooth[1] - smooth[0]) > CHANGE).astype(np.uint8)
    reach = 2 * (before.shape[0] // REACH) + 1
    return cv2.dilate(changed, np.ones((reach, reach), np.uint8)).astype(np.float32)
