"""Films that are kept as pictures: animated WebP, which no decoder of ffmpeg's opens."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

from goku_cli.media.color.srgb import to_srgb

TICK = Fraction(1, 1000)
USUAL_MS, LEAST_MS = 100, 10
"""Browsers show a picture that says at most so little for a tenth of a second."""


def pictures(image: Any) -> Iterator[av.VideoFrame]:
    """Yield the frames of an animation that Pillow has opened, each with its time and how long it stands."""
    at = 0
    for number in range(image.n_frames):
        image.seek(number)
        image.load()
        said = int(image.info.get("duration") or 0)
        frame = av.VideoFrame.from_ndarray(to_srgb(image)[0], format="rgb24")
        frame.pts, frame.time_base = at, TICK
        frame.duration = said if said > LEAST_MS else USUAL_MS
        at += frame.duration
        yield frame
