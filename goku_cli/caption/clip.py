"""A clip as every captioner sees it; its frames are decoded when the first one asks for them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from goku_cli.errors import GokuError
from goku_cli.manifest.store import Row
from goku_cli.media.frames import read_frames
from goku_cli.media.motion.camera import Camera, measure_camera
from goku_cli.media.probing.probe import check_unchanged

FPS = 8.0
SHORT_SIDE = 240
KEY_SIDE = 480
"""Short side at which frames are decoded for a model."""
KEY_LONG_SIDE = 768
"""Most pixels of a key frame's long side: what a model reads costs by its pixels."""
QUALITY = 90


@dataclass(frozen=True)
class KeyFrame:
    """One frame that a model sees."""

    at_us: int
    """Within the clip."""
    jpeg: bytes


@dataclass(frozen=True)
class Clip:
    """One clip to caption."""

    row: Row
    """Its id, kind, source_path, fields, start_us and end_us; the size and time of its file when it was ingested."""
    sidecars: tuple[Row, ...] = ()
    """Texts that came with its source: start_us, end_us (None: all of it), text."""
    motion: float | None = None
    """The motion score that was measured, if any."""
    most_key_frames: int = 0
    """For a model; 0: none sees it."""

    @property
    def is_video(self) -> bool:
        """Whether it has more than one frame."""
        return self.row["kind"] == "video"

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.row["end_us"] - self.row["start_us"]) / 1e6

    @property
    def frames(self) -> np.ndarray:
        """The frames at FPS, uint8 RGB (T, H, W, 3).

        Raises:
            Fault: they cannot be read.
        """
        return self._decoded[0]

    @cached_property
    def key_frames(self) -> tuple[KeyFrame, ...]:
        """Frames for a model, evenly spaced, at most one a second."""
        return self._decoded[1]

    @cached_property
    def camera(self) -> Camera | None:
        """What the camera does; None for an image, and for a clip that does not show it."""
        if not self.is_video:
            return None
        return measure_camera([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in self.frames], FPS)

    def release(self) -> None:
        """Forget the frames but the key frames: many clips wait for a server."""
        vars(self).pop("_decoded", None)

    @cached_property
    def _decoded(self) -> tuple[np.ndarray, tuple[KeyFrame, ...]]:
        path = Path(self.row["source_path"])
        check_unchanged(path, self.row["source_bytes"], self.row["source_mtime_ns"])
        span = {name: self.row[name] for name in ("start_us", "end_us", "fields")} | {"fps": FPS}
        ticks = _ticks(self.seconds, self.most_key_frames) if self.is_video else [0][: self.most_key_frames]
        side = (KEY_SIDE if self.is_video else KEY_LONG_SIDE) if ticks else SHORT_SIDE
        small, keys = [], []
        for number, (_, frame) in enumerate(read_frames(path, short_side=side, **(span if self.is_video else {}))):
            keys += [(number, _jpeg(frame))] * (number in ticks)
            small.append(_within(frame, SHORT_SIDE / min(frame.shape[:2])))
        if not small:
            raise GokuError("no frame lies in the clip")
        return np.stack(small), tuple(KeyFrame(round(number * 1e6 / FPS), jpeg) for number, jpeg in keys)


def _ticks(seconds: float, most: int) -> list[int]:
    """Return the numbers of `most` frames, or of one a second, each from the middle of an equal part."""
    count = min(most, max(1, round(seconds)))
    return [int((part + 0.5) * seconds * FPS / count) for part in range(count)]


def _jpeg(frame: np.ndarray) -> bytes:
    shown = _within(frame, KEY_LONG_SIDE / max(frame.shape[:2]))
    _, data = cv2.imencode(".jpg", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return data.tobytes()


def _within(frame: np.ndarray, scale: float) -> np.ndarray:
    if scale >= 1:
        return np.ascontiguousarray(frame)
    width, height = (max(1, round(side * scale)) for side in frame.shape[1::-1])
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
