"""A clip as every captioner sees it; its frames are decoded when the first one asks for them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from goku_cli.errors import GokuError
from goku_cli.manifest.store import Row
from goku_cli.media.frames import read_frames

FPS = 8.0
SHORT_SIDE = 240


@dataclass(frozen=True)
class Clip:
    """One clip to caption."""

    row: Row
    """Its id, kind, source_path, start_us and end_us."""
    sidecars: tuple[Row, ...] = ()
    """Texts that came with its source: start_us, end_us (None: all of it), text."""
    motion: float | None = None
    """The motion score that was measured, if any."""

    @property
    def is_video(self) -> bool:
        """Whether it has more than one frame."""
        return self.row["kind"] == "video"

    @cached_property
    def frames(self) -> np.ndarray:
        """The frames at FPS, uint8 RGB (T, H, W, 3).

        Raises:
            GokuError: they cannot be read.
        """
        span = {"start_us": self.row["start_us"], "end_us": self.row["end_us"], "fps": FPS} if self.is_video else {}
        frames = [frame for _, frame in read_frames(Path(self.row["source_path"]), short_side=SHORT_SIDE, **span)]
        if not frames:
            raise GokuError("no frame lies in the clip")
        return np.stack(frames)
