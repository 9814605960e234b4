"""The picture itself: how good it looks, how much of it is black, and whether it has bars."""

import cv2
import numpy as np

from goku_cli.filter.sampled import SampledClip

DARK = 16
EVEN_CONTRAST = 10.0
BAR_SPREAD = 6.0
"""Standard deviation of luma within a bar."""
BLUR_TAPS = 9


def measured_aesthetic(clip: SampledClip) -> float:
    """Sharpness, contrast and colorfulness on a scale of 0 to 10, the mean over one frame per second.

    No judgement of beauty: it tells a clear, lit, colored picture (about 5 to 7) from a blurred, flat or grey one
    (below 4), so that the paper's thresholds of 4.3 and 4.5 drop what is plainly poor.
    """
    return float(np.mean([_appeal(frame) for frame in clip.seconds]))


def blur(clip: SampledClip) -> float:
    """How blurred the picture is, 0 (sharp) to 1, the mean over one frame per second (Crete et al. 2007).

    Measured at a short side of 240, where a fault of focus that only shows at full size is not seen.
    """
    return float(np.mean([_blurredness(frame) for frame in clip.seconds]))


def black(clip: SampledClip) -> float:
    """Share of samples that are even and dark."""
    return float(np.mean([grey.mean() < DARK and grey.std() < EVEN_CONTRAST for grey in clip.grey]))


def letterbox(clip: SampledClip) -> float:
    """Share of the frame under black bars at its edges that stay through the whole clip.

    A clip that is black all over has no bars; `black` speaks of it.
    """
    height, width = clip.grey[0].shape
    top, bottom = _bars(clip, 1)
    left, right = _bars(clip, 0)
    if top + bottom >= height or left + right >= width:
        return 0.0
    return 1.0 - (height - top - bottom) * (width - left - right) / (height * width)


def _appeal(frame: np.ndarray) -> float:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    sharpness = float(np.log10(1.0 + cv2.Laplacian(grey, cv2.CV_32F).var()) / 3.5)
    contrast = float(grey.std()) / 75.0
    return 10.0 * float(np.mean([min(1.0, part) for part in (sharpness, contrast, _colorfulness(frame) / 80.0)]))


def _blurredness(frame: np.ndarray) -> float:
    """Blur it once more: what was sharp loses the steps between neighboring pixels, what was blurred keeps them."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    found = []
    for axis, size in ((0, (1, BLUR_TAPS)), (1, (BLUR_TAPS, 1))):
        steps = np.abs(np.diff(grey, axis=axis))
        again = np.abs(np.diff(cv2.blur(grey, size), axis=axis))
        total = float(steps.sum())
        found.append(1.0 - float(np.maximum(0, steps - again).sum()) / total if total else 1.0)
    return max(found)


def _colorfulness(frame: np.ndarray) -> float:
    """Hasler and Suesstrunk 2003: 0 for grey, about 45 for an ordinary photograph, over 100 for a garish one."""
    red, green, blue = (frame[..., channel].astype(np.float32) for channel in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))


def _bars(clip: SampledClip, axis: int) -> tuple[int, int]:
    """Return how many lines at the beginning and at the end are dark and even in every sample."""
    lines = np.all(
        [(grey.mean(axis) < DARK) & (grey.std(axis) < BAR_SPREAD) for grey in clip.grey[:: len(clip.grey) // 4 or 1]],
        axis=0,
    )
    first = int(np.argmin(lines)) if not lines.all() else len(lines)
    last = int(np.argmin(lines[::-1])) if not lines.all() else len(lines)
    return first, last
