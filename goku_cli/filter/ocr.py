"""Text in the picture: the only module that imports an OCR engine. Its models come with the wheel."""

from functools import cache

import numpy as np
from rapidocr import RapidOCR

from goku_cli.filter.sampled import SampledClip

LONG_SIDE = 320
"""Pixels to which a frame is shrunk for detection; captions and titles are still found."""

LINE = 1.5
"""A line of text is at least so many times longer than it is tall; squarer boxes hold a wheel as often as an O."""

LEAST_SCORE = 0.55
"""Faint boxes below it, the engine's own limit is 0.5, span whole frames without text."""

_DETECT = {"use_det": True, "use_cls": False, "use_rec": False, "box_thresh": LEAST_SCORE}


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
    found = _engine()(np.ascontiguousarray(frame[..., ::-1]), **_DETECT)
    if found.boxes is None or len(found.boxes) == 0:
        return 0.0
    lines = [box for box in found.boxes if _elongation(np.asarray(box)) >= LINE]
    return max((_area(np.asarray(box)) for box in lines), default=0.0) / (frame.shape[0] * frame.shape[1])


def _elongation(box: np.ndarray) -> float:
    """Long side over short side of a box with corners (4, 2) in order."""
    sides = np.linalg.norm(box[1] - box[0]), np.linalg.norm(box[2] - box[1])
    return float(max(sides) / max(min(sides), 1.0))


def _area(box: np.ndarray) -> float:
    """Area of a polygon (n, 2) by the shoelace formula."""
    x, y = box[:, 0], box[:, 1]
    return 0.5 * float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)))
