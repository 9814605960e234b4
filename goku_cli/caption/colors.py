"""Names for the colors of a picture."""

import cv2
import numpy as np

NAMED = {
    "black": (12, 12, 12), "white": (245, 245, 245), "grey": (128, 128, 128), "red": (200, 35, 35),
    "orange": (235, 130, 30), "yellow": (235, 215, 50), "green": (60, 150, 60), "cyan": (60, 200, 215),
    "blue": (50, 85, 200), "purple": (145, 60, 175), "pink": (240, 150, 180), "brown": (110, 75, 45),
    "beige": (215, 195, 160),
}  # fmt: skip
LEAST_SHARE = 0.2


def dominant_colors(frames: np.ndarray) -> list[str]:
    """Return up to two color names that cover most of the frames (T, H, W, 3), the larger first.

    A second color is named when it covers a fifth of the picture.
    """
    small = np.concatenate([cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA) for frame in frames])
    nearest = ((_lab(small)[:, :, None] - _NAMES_LAB) ** 2).sum(axis=3).argmin(axis=2)
    shares = np.bincount(nearest.ravel(), minlength=len(NAMED)) / nearest.size
    first, second = np.argsort(-shares)[:2]
    names = list(NAMED)
    return [names[first]] + ([names[second]] if shares[second] >= LEAST_SHARE else [])


def _lab(rgb: np.ndarray) -> np.ndarray:
    """CIE Lab, float32, from uint8 RGB (H, W, 3)."""
    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


_NAMES_LAB = _lab(np.array([list(NAMED.values())], np.uint8))[0]
