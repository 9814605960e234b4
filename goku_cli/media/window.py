"""Windows of frames: a clip resampled by time, scaled and cropped to one size."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from goku_cli.errors import Cause, Fault
from goku_cli.media.frames import read_frames

PERIOD = 4


def crop_to(image: np.ndarray, height: int, width: int, *, enlarge: bool = False) -> np.ndarray:
    """Scale an image (H, W, 3) to cover height x width, aspect kept, and crop its middle.

    Raises:
        Fault: UNSUITABLE, when it would have to be enlarged and may not be.
    """
    scale = max(height / image.shape[0], width / image.shape[1])
    if scale > 1 and not enlarge:
        has = f"{image.shape[1]}x{image.shape[0]}"
        raise Fault(Cause.UNSUITABLE, f"{has} is smaller than the bucket {width}x{height}")
    size = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top : top + height, left : left + width]


def bucket_for(image: np.ndarray, landscape: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width): the landscape bucket, or its turned twin for a portrait image."""
    height, width = landscape
    return (height, width) if image.shape[1] >= image.shape[0] else (width, height)


def read_windows(
    path: Path, *, start_us: int, end_us: int, fps: float, frames: int, windows: int, bucket: tuple[int, int],
    period: int = PERIOD, enlarge: bool = False, fields: str | None = None,
) -> Iterator[tuple[int, np.ndarray]]:  # fmt: skip
    """Yield (start_us within the clip, frames (T, H, W, 3) uint8): up to `windows` evenly spread windows.

    The clip is decoded once; `fields` is as in `open_decoding`. T is `frames`, or the longest k * period + 1 that the
    clip holds; an image gives T = 1.

    Raises:
        Fault: nothing could be decoded, or the clip is smaller than the bucket and may not be enlarged.
    """
    span = {} if start_us == end_us else {"start_us": start_us, "end_us": end_us, "fps": fps}
    small: list[np.ndarray] = []
    for _, image in read_frames(path, fields=fields, **span):  # type: ignore[arg-type]
        size = small[0].shape[:2] if small else bucket_for(image, bucket)
        small.append(crop_to(image, *size, enlarge=enlarge))
    if not small:
        raise Fault(Cause.UNREADABLE, "no frames in this range")
    length = min(frames, 1 + (len(small) - 1) // period * period)
    spare = len(small) - length
    count = min(windows, spare + 1)
    starts = sorted({round(i * spare / max(count - 1, 1)) for i in range(count)})
    for start in starts:
        yield round(start * 1_000_000 / fps), np.stack(small[start : start + length])
