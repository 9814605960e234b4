"""Text in the picture: the only module that imports an OCR engine. Its models come with the wheel."""

from functools import cache
from typing import Any

import cv2
import numpy as np
from rapidocr import RapidOCR

from goku_cli.filter.sampled import SampledClip

LONG_SIDE = 320
"""Pixels to which a frame is shrunk for detection; captions and titles are still found."""

LINE = 1.5
"""A line of text is at least so many times longer than it is tall; squarer boxes hold a wheel as often as an O."""

WHOLE = 0.5
"""No line of text fills half of the frame; a box that does is the edge of a soft picture."""
LEAST_SCORE = 0.55
"""Faint boxes below it, the engine's own limit is 0.5, span whole frames without text."""


def rapidocr_area(clip: SampledClip) -> float:
    """Area of the largest text box as a share of the frame, the most over one frame per second."""
    return max(_largest(frame) for frame in clip.seconds)


@cache
def _engine() -> RapidOCR:
    """One engine per process."""
    return RapidOCR(
        params={
            "Det.limit_type": "max",
            "Det.limit_side_len": LONG_SIDE,
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _largest(frame: np.ndarray) -> float:
    # The flags are given at every call because the engine keeps those of the last one.
    found: Any = _engine()(
        np.ascontiguousarray(frame[..., ::-1]), use_det=True, use_cls=False, use_rec=False, box_thresh=LEAST_SCORE
    )
    boxes = () if found.boxes is None else [np.asarray(box) for box in found.boxes]
    size = frame.shape[0] * frame.shape[1]
    shares = [cv2.contourArea(box.astype(np.float32)) / size for box in boxes if _elongation(box) >= LINE]
    return max((share for share in shares if share < WHOLE), default=0.0)


def _elongation(box: np.ndarray) -> float:
    """Long side over short side of a box with corners (4, 2) in order."""
    sides = sorted(float(np.linalg.norm(box[i + 1] - box[i])) for i in (0, 1))
    return sides[1] / max(sides[0], 1.0)
