"""Orientation of a film: the whole display matrix, of which rotation is only one part.

FFmpeg keeps it as nine numbers, of which a, b, c, d move the pixel in column p, row q to x = a p + c q, y = b p + d q.
"""

from dataclasses import dataclass

import av
import numpy as np
from av.sidedata.sidedata import Type


@dataclass(frozen=True)
class Orientation:
    """What is done to a decoded picture, in this order."""

    transposed: bool = False
    mirrored: bool = False
    """Left and right exchanged."""
    flipped: bool = False
    """Top and bottom exchanged."""

    def applied(self, image: np.ndarray) -> np.ndarray:
        """Return (H, W, ...) the right way up."""
        if self.transposed:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1]

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height as they are shown."""
        return (height, width) if self.transposed else (width, height)

    @property
    def filters(self) -> list[tuple[str, ...]]:
        """The same for ffmpeg."""
        found = [("transpose", "cclock_flip")] if self.transposed else []
        return [*found, *([("hflip",)] if self.mirrored else []), *([("vflip",)] if self.flipped else [])]

    @property
    def rotation(self) -> int:
        """Degrees to the left that the picture is turned by, before it is exchanged left and right when `reflects`."""
        mirrored = self.mirrored != self.reflects
        if not self.transposed:
            return 180 if mirrored and self.flipped else 0
        return 270 if mirrored else 90

    @property
    def reflects(self) -> bool:
        """Whether no rotation alone does it."""
        return self.transposed ^ self.mirrored ^ self.flipped


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Return the orientation that a frame's display matrix says; upright where there is none."""
    data = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if data is None:
        return Orientation()
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(mirrored=a < 0, flipped=d < 0)
    return Orientation(transposed=True, mirrored=c < 0, flipped=b < 0)
