"""A clip as every scorer sees it: a few small frames, decoded once."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from goku_cli.errors import GokuError
from goku_cli.media.frames import read_frames
from goku_cli.media.layout import layout
from goku_cli.media.motion.motion import FPS, REFERENCE_SIDE, SHORT_SIDE


@dataclass(frozen=True, eq=False)
class SampledClip:
    """Frames of one clip, short side at most SHORT_SIDE; an image has one."""

    frames: tuple[np.ndarray, ...]
    """uint8 RGB (H, W, 3)."""
    fps: float = FPS

    @cached_property
    def grey(self) -> tuple[np.ndarray, ...]:
        """The frames' luma, uint8 (H, W)."""
        return tuple(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in self.frames)

    @cached_property
    def seconds(self) -> tuple[np.ndarray, ...]:
        """One frame per second: the paper's key frames."""
        return self.frames[:: int(self.fps)]

    @cached_property
    def layouts(self) -> tuple[np.ndarray, ...]:
        """The layout feature of each of `seconds`."""
        return tuple(layout(frame) for frame in self.seconds)

    def by_seconds(self) -> "SampledClip":
        """Return the clip with its key frames alone."""
        return SampledClip(self.seconds, 1.0)

    @property
    def to_reference(self) -> float:
        """What a length in pixels here is multiplied by to count at REFERENCE_SIDE."""
        return REFERENCE_SIDE / min(self.frames[0].shape[:2])

    def pairs(self, apart: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield grey frames that lie `apart` sampling steps from each other, one pair beginning at every step."""
        return zip(self.grey, self.grey[apart:], strict=False)


def sample(path: Path, start_us: int, end_us: int, fields: str | None = None) -> SampledClip:
    """Decode a clip; `fields` is what its source's row says of them.

    Raises:
        GokuError: it cannot be read, or holds no frame.
    """
    if end_us == start_us:
        frames = tuple(frame for _, frame in read_frames(path, short_side=SHORT_SIDE))
    else:
        span = read_frames(path, start_us=start_us, end_us=end_us, fps=FPS, short_side=SHORT_SIDE, fields=fields)
        frames = tuple(np.ascontiguousarray(frame) for _, frame in span)
    if not frames:
        raise GokuError("no frame lies in the clip")
    return SampledClip(frames)
