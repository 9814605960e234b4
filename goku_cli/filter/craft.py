"""Text in the picture by easyocr's detector (CRAFT, Baek et al. 2019). The only module that imports easyocr."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from goku_cli.filter.sampled import SampledClip
from goku_cli.vision.device import device
from goku_cli.weights import CRAFT

CANVAS = 640
"""Pixels to which the long side is brought before detection."""


def load() -> Callable[[Sequence[SampledClip]], list[float]]:
    """Return the scorer: area of the largest text box as a share of the frame, the most over key frames.

    Raises:
        GokuError: the weights are not there.
    """
    path = CRAFT.path()
    import easyocr

    reader = easyocr.Reader(
        ["en"], gpu=device().type == "cuda", model_storage_directory=str(path.parent), download_enabled=False,
        recognizer=False, verbose=False,
    )  # fmt: skip

    def score(clips: Sequence[SampledClip]) -> list[float]:
        return [max(_largest(reader, frame) for frame in clip.seconds) for clip in clips]

    return score


def _largest(reader: object, frame: np.ndarray) -> float:
    """Level boxes are (left, right, top, bottom), slanted ones four corners."""
    level, slanted = reader.detect(np.ascontiguousarray(frame), canvas_size=CANVAS)  # type: ignore[attr-defined]
    areas = [(right - left) * (bottom - top) for left, right, top, bottom in level[0]]
    areas += [cv2.contourArea(np.array(corners, np.float32)) for corners in slanted[0]]
    return float(min(1.0, max(areas, default=0.0) / (frame.shape[0] * frame.shape[1])))
