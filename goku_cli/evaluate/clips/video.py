"""Figures of a clip that need no weights: how still, how moving, how sharp, and whether it is what was asked for.

Each function takes frames (T, H, W, 3) uint8 RGB, their rate, and the sample's row of the manifest; None says that it
does not apply, as movement does not to an image. Names never borrow a benchmark's name for a substitute.
"""

import itertools

import cv2
import numpy as np

from goku_cli.manifest.store import Row
from goku_cli.media.motion import motion
from goku_cli.media.motion.flow import changing, magnitude, optical_flow

FLOW_SIDE = 256
SAMPLED_FPS = 8.0
BLACK_LEVEL, BLACK_SHARE = 0.10, 0.98
"""A frame is black when this share of it is darker than this luma: the defaults of ffmpeg's blackdetect."""
AGREEMENT = 0.01, 0.5
"""Flow there and back may differ by this share of their squared lengths, and by this more (Sundaram et al. 2010)."""


def as_asked(frames: np.ndarray, fps: float, row: Row) -> float | None:
    """Return 1 when frames, height and width are those of the sample's row."""
    return float(frames.shape[:3] == (row["frames"], row["height"], row["width"]))


def flicker(frames: np.ndarray, fps: float, row: Row) -> float | None:
    """Return (255 - mean |f_t - f_t+1|) / 255: 1 is a still picture (the rule of VBench's temporal flickering)."""
    if len(frames) < 2:
        return None
    steps = [np.abs(b.astype(np.int16) - a).mean() for a, b in itertools.pairwise(frames)]
    return float((255 - np.mean(steps)) / 255)


def moves_dis(frames: np.ndarray, fps: float, row: Row) -> float | None:
    """Return 1 when enough of the picture moves, else 0: VBench's dynamic-degree rule on DIS flow instead of RAFT.

    At about 8 frames per second, the mean of the fastest 5 % of the flow must exceed 6 pixels of a 256-pixel
    frame in a quarter of the pairs.
    """
    if len(frames) < 2:
        return None
    grey = _grey(frames[:: max(1, round(fps / SAMPLED_FPS))], FLOW_SIDE)
    fast = 0
    for before, after in itertools.pairwise(grey):
        size = np.sort(np.linalg.norm(optical_flow(before, after), axis=2), axis=None)
        fast += size[-max(1, len(size) // 20) :].mean() > 6
    return float(fast >= round(4 * len(grey) / 16))


def motion_score(frames: np.ndarray, fps: float, row: Row) -> float | None:
    """Return the motion score that `goku filter` gives a clip and that captions may name, in pixels."""
    if len(frames) < 2:
        return None
    ticks = np.arange(int(len(frames) / fps * motion.FPS + 1e-6)) * fps / motion.FPS
    return motion.motion_score(_grey(frames[ticks.astype(int)], min(motion.SHORT_SIDE, *frames.shape[1:3])))


def warp_error_dis(frames: np.ndarray, fps: float, row: Row) -> float | None:
    """Return how far frames are from the ones before them moved along the optical flow; 0 is smooth movement.

    The mean over pairs of the mean |luma - warped luma| / 255, where the DIS flow there and back agree. A pair in
    which it agrees nowhere is as wrong as the frames differ.
    """
    if len(frames) < 2:
        return None
    return float(np.mean([_warp_error(*pair) for pair in itertools.pairwise(_grey(frames, FLOW_SIDE))]))


def acceleration_dis(frames: np.ndarray, fps: float, row: Row) -> float | None:
    """Return how much the DIS flow changes from pair to pair, in pixels of a 256-pixel frame; 0 is steady movement."""
    if len(frames) < 3:
        return None
    flows = [optical_flow(*pair) for pair in itertools.pairwise(_grey(frames, FLOW_SIDE))]
    return float(np.mean([magnitude(after - before) for before, after in itertools.pairwise(flows)]))


def sharpness(frames: np.ndarray, fps: float, row: Row) -> float | None:
    """Return the variance of the Laplacian of the middle frame's luma (Pech-Pacheco et al. 2000)."""
    grey = cv2.cvtColor(frames[len(frames) // 2], cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def black_share(frames: np.ndarray, fps: float, row: Row) -> float | None:
    """Return the share of frames that are black."""
    dark = [(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) < BLACK_LEVEL * 255).mean() for frame in frames]
    return float(np.mean(np.array(dark) >= BLACK_SHARE))


def frozen_share(frames: np.ndarray, fps: float, row: Row) -> float | None:
    """Return the share of neighboring frames that are the same picture but for noise."""
    if len(frames) < 2:
        return None
    still = [not changing(*pair).any() for pair in itertools.pairwise(_grey(frames, FLOW_SIDE))]
    return float(np.mean(still))


def ssim_first(frames: np.ndarray, fps: float, row: Row) -> float | None:
    """Return the mean structural similarity (Wang et al. 2004) of every later frame to the first."""
    if len(frames) < 2:
        return None
    from goku_cli.vision.distances import likeness

    return float(np.mean([likeness(frame[None], frames[:1])[1] for frame in frames[1:]]))


def _grey(frames: np.ndarray, side: int) -> list[np.ndarray]:
    """Return luma (H, W) uint8 with the given short side."""
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    scale = side / min(grey[0].shape)
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return grey if scale == 1 else [cv2.resize(image, None, fx=scale, fy=scale, interpolation=how) for image in grey]


def _warp_error(before: np.ndarray, after: np.ndarray) -> float:
    """Return the error of `after`, read where each pixel of `before` went."""
    there, back = optical_flow(before, after), optical_flow(after, before)
    moved, back_moved = _sampled(after, there), _sampled(back, there)
    gap = np.square(there + back_moved).sum(2)
    share, more = AGREEMENT
    agree = gap < share * (np.square(there).sum(2) + np.square(back_moved).sum(2)) + more
    wrong = np.abs(moved.astype(np.float32) - before) / 255
    return float(wrong[agree].mean() if agree.any() else wrong.mean())


def _sampled(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    columns, rows = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in flow.shape[1::-1]))
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
