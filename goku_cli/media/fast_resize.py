"""Small pictures for analysis, where every frame of a video is looked at and speed counts.

The planes of the usual formats are sampled where they lie, before they become colors, as PySceneDetect samples its
frames: a tenth of the time that a scaler takes which averages every pixel, for the same cuts.
"""

import av
import cv2
import numpy as np

from goku_cli.media.color.color import PLANAR, coding_of, plane_view, to_rgb
from goku_cli.media.frames import fit, picture
from goku_cli.media.orientation import orientation_of


def shrink(frame: av.VideoFrame, sar: float, short_side: int) -> np.ndarray:
    """Return a frame as uint8 RGB (H, W, 3) with even sizes, upright and with square pixels."""
    wide, high = fit(round(frame.width * sar), frame.height, short_side)
    width, height = max(2, wide & ~1), max(2, high & ~1)
    coding = coding_of(frame)
    if frame.format.name not in PLANAR or coding.transfer != "sdr":
        return np.ascontiguousarray(picture(frame, sar, short_side))
    small = np.empty(width * height * 3 // 2, np.uint8)
    sizes = [(width, height), (width // 2, height // 2), (width // 2, height // 2)]
    begin = 0
    for plane, (across, down) in zip(frame.planes, sizes, strict=True):
        target = small[begin : begin + across * down].reshape(down, across)
        cv2.resize(plane_view(plane), (across, down), dst=target, interpolation=cv2.INTER_LINEAR)
        begin += across * down
    sampled = av.VideoFrame.from_ndarray(small.reshape(height * 3 // 2, width), format="yuv420p")
    return np.ascontiguousarray(orientation_of(frame).applied(to_rgb(sampled, coding=coding)))
