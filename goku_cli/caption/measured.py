"""A caption composed from what was measured: no model, nothing invented."""

import itertools

import numpy as np

from goku_cli.caption.clip import FPS, Clip
from goku_cli.caption.colors import dominant_colors
from goku_cli.media.motion.flow import magnitude, optical_flow
from goku_cli.shapes.detect import caption_of, describe

PACES = ((0.3, "almost no motion"), (4.0, "slow motion"), (12.0, "moderate motion"), (np.inf, "fast motion"))
"""Mean flow in pixels per quarter of a second at a short side of 480, below which a word holds."""
DARK, BRIGHT = 60, 180


def measured(clip: Clip) -> str | None:
    """Return a sentence of the moving-shapes grammar when the clip shows that world, else colors and motion."""
    return caption_of(describe(clip.frames, FPS)) or _picture(clip)


def _picture(clip: Clip) -> str:
    """Say e.g. "a mostly blue and grey video, slow motion to the left, static camera"."""
    luma = float(clip.frames.mean())
    light = "dark, " if luma < DARK else "bright, " if luma > BRIGHT else ""
    what = f"a {light}mostly {' and '.join(dominant_colors(clip.frames[::4]))}"
    return f"{what} video, {_motion(clip)}" if clip.is_video else f"{what} image"


def _motion(clip: Clip) -> str:
    grey = [np.ascontiguousarray(frame.mean(axis=2).astype(np.uint8)) for frame in clip.frames[::2]]
    flows = [optical_flow(before, after) for before, after in itertools.pairwise(grey)]
    if not flows:
        return PACES[0][1]
    scale = 480 / min(grey[0].shape)
    pace = scale * float(np.mean([magnitude(flow) for flow in flows]))
    words = next(word for limit, word in PACES if pace < limit)
    heading = np.mean([flow.mean(axis=(0, 1)) for flow in flows], axis=0) * scale
    if pace >= PACES[0][0] and np.hypot(*heading) > pace / 2:
        words += f" {_direction(*heading)}"
    camera = clip.camera.sentence if clip.camera else ""
    return f"{words}, {camera}" if camera else words


def _direction(x: float, y: float) -> str:
    if abs(x) >= abs(y):
        return "to the right" if x > 0 else "to the left"
    return "downwards" if y > 0 else "upwards"
