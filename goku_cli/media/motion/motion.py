"""The motion score: how much a clip moves, and how a text asks for it."""

import re
from collections.abc import Sequence

import numpy as np

from goku_cli.media.motion.flow import magnitude, optical_flow

FPS = 8.0
SHORT_SIDE = 240
"""Frames a second, and most pixels of the short side, at which a clip is looked at."""
REFERENCE_SIDE = 480
"""Movement is given in pixels of a frame whose short side is this long, whatever the clip's size is."""
QUARTER_SECOND = 2
"""In steps of FPS."""
_ASKED = re.compile(r" motion score: (\d+)\.$")


def motion_score(grey: Sequence[np.ndarray]) -> float:
    """Return the mean length of the optical flow over a quarter of a second, in pixels; 0 for less than that.

    The paper takes RAFT and gives neither frame distance nor size; these are ours, so its thresholds are too.

    Args:
        grey: frames (H, W) uint8 at FPS, short side at most SHORT_SIDE.
    """
    pairs = list(zip(grey, grey[QUARTER_SECOND:], strict=False))[::QUARTER_SECOND]
    if not pairs:
        return 0.0
    return REFERENCE_SIDE / min(grey[0].shape) * float(np.mean([magnitude(optical_flow(*pair)) for pair in pairs]))


def with_motion_score(text: str, motion: float) -> str:
    """Append the motion score as a sentence of its own, rounded to a whole number."""
    return f"{text}{'' if text.endswith('.') else '.'} motion score: {round(motion)}."


def without_motion_score(text: str) -> str:
    """Return a text without the motion score that it ends with."""
    return _ASKED.sub("", text)


def asked_motion(text: str) -> int | None:
    """Return the motion score that a text ends with, or None."""
    found = _ASKED.search(text)
    return int(found[1]) if found else None
