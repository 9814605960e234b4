"""Fades through black or white: the frames between two shots that belong to neither.

A fade is a run of even, dark (or bright) frames with a ramp on either side, on which the distance from black (or
white) grows frame by frame until the shot is fully there.
"""

import numpy as np

EVEN_CONTRAST = 10.0
"""Standard deviation of luma, of 255, below which a frame is even."""
DARK = 16.0
"""Mean luma below which an even frame is black; 255 less this is white."""
RAMP_STEP = 0.5
"""Least change of mean luma from frame to frame on a ramp."""
LONGEST_RAMP_US = 2_000_000


def fade_gaps(times_us: np.ndarray, luma: np.ndarray, contrast: np.ndarray, longest_us: float) -> list[tuple[int, int]]:
    """Return [first, end) frame numbers to leave out: flat runs shorter than `longest_us`, and all ramps.

    A longer flat run is not a fade but a black shot, which is for the filter to judge; only its ramps go.
    """
    gaps = []
    for depth in (luma, 255.0 - luma):
        for first, end in _runs((depth < DARK) & (contrast < EVEN_CONTRAST)):
            before, after = _ramp(times_us, depth, first, -1), _ramp(times_us, depth, end - 1, +1)
            length = times_us[min(end, len(times_us) - 1)] - times_us[first]
            gaps += [(before, after + 1)] if length < longest_us else [(before, first), (end, after + 1)]
    return sorted((first, end) for first, end in gaps if end > first)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def _ramp(times_us: np.ndarray, depth: np.ndarray, start: int, step: int) -> int:
    """Return the last frame, going from `start` in direction `step`, that is still fading."""
    at = start
    while 0 <= at + step < len(depth) and abs(times_us[at + step] - times_us[start]) < LONGEST_RAMP_US:
        # The frame on which the rise ends is the first whole one of the shot, so look two ahead.
        if depth[at + step] < depth[at] + RAMP_STEP or not _rises(depth, at + step, step):
            break
        at += step
    return at


def _rises(depth: np.ndarray, at: int, step: int) -> bool:
    return 0 <= at + step < len(depth) and depth[at + step] >= depth[at] + RAMP_STEP
