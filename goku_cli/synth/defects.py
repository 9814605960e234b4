"""Planted defects of a shot: effects on pixels, on frames of uint8 RGB (H, W, 3)."""

import cv2
import numpy as np

SHOT_DEFECTS = ("static", "shaky", "text", "near_duplicate", "black", "letterbox", "wrong_caption")
"""Every kind a shot can carry; static, near_duplicate and wrong_caption are no matter of pixels."""
IMAGE_DEFECTS = ("text", "near_duplicate", "letterbox", "wrong_caption")

_SLOGANS = (
    "SUBSCRIBE NOW",
    "BREAKING NEWS",
    "LIMITED OFFER",
    "EPISODE 12 OF 24",
    "CALL 555 0199",
    "SALE ENDS TODAY",
)
_STILL_GRAIN, _LIVELY_GRAIN = 4.0, 0.7
"""Standard deviations in 8-bit levels: 600 to 900 kbit/s at 864x480, 24 fps, crf 18, where none gives 100."""


class Damage:
    """The effect of one shot's defect, the same for a given generator."""

    def __init__(self, defect: str | None, rng: np.random.Generator) -> None:
        self.defect = defect
        self._rng = rng
        self._slogans = list(rng.permutation(_SLOGANS)[:3])

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Damage one frame; frames must come in order, because a shaky camera moves with each."""
        if self.defect == "shaky":
            return _shift(frame, *self._rng.uniform(-0.08, 0.08, 2) * frame.shape[0])
        if self.defect == "text":
            return _write(frame, self._slogans)
        if self.defect == "black":
            return np.full_like(frame, 4)
        if self.defect == "letterbox":
            return _letterbox(frame)
        return frame


class Grain:
    """Faint grey sensor noise of one shot: a pattern that stays, as a sensor's does, and a bit that flickers.

    Without it a flat picture compresses to a bitrate that no real video has; were all of it new in every
    frame, the encoder would take three times as long.
    """

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self._still = _grey(rng.normal(0, _STILL_GRAIN, (height, width)))
        self._lively = _grey(rng.normal(0, _LIVELY_GRAIN, (height + 64, width + 64)))
        self._rng = rng

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Add the noise to one frame."""
        height, width = frame.shape[:2]
        top, left = self._rng.integers(0, 64, 2)
        noise = self._still + self._lively[top : top + height, left : left + width]
        return cv2.add(frame, noise, dtype=cv2.CV_8U)


def _grey(noise: np.ndarray) -> np.ndarray:
    return cv2.merge([np.rint(noise).astype(np.int16)] * 3)


def _shift(frame: np.ndarray, x: float, y: float) -> np.ndarray:
    warp = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return cv2.warpAffine(frame, warp, frame.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def _write(frame: np.ndarray, lines: list[str]) -> np.ndarray:
    height, width = frame.shape[:2]
    written = frame.copy()
    for row, line in enumerate(lines):
        (across, tall), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)
        scale = min(0.8 * width / across, 0.16 * height / tall)
        thick = max(2, round(2.2 * scale))
        foot = (int(0.08 * width), int((0.28 + 0.27 * row) * height))
        for color, weight in (((0, 0, 0), 3 * thick), ((255, 255, 255), thick)):
            cv2.putText(written, line, foot, cv2.FONT_HERSHEY_SIMPLEX, scale, color, weight, cv2.LINE_AA)
    return written


def _letterbox(frame: np.ndarray) -> np.ndarray:
    bar = round(0.14 * frame.shape[0])
    boxed = frame.copy()
    boxed[:bar] = boxed[-bar:] = 0
    return boxed
