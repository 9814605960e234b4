"""Windows of frames: a clip resampled by time, scaled and cropped to one size."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from goku_cli.errors import GokuError
from goku_cli.media.frames import read_frames

STRIDE = 4


def crop_to(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale an image (H, W, 3) to cover height x width, aspect kept, and crop its middle.

    Raises:
        GokuError: it would have to be enlarged.
    """
    scale = max(height / image.shape[0], width / image.shape[1])
    if scale > 1:
        raise GokuError(f"{image.shape[1]}x{image.shape[0]} is smaller than the bucket {width}x{height}")
    size = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top : top + height, left : left + width]


def bucket_for(image: np.ndarray, landscape: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width): the landscape bucket, or its turned twin for a portrait image."""
    height, width = landscape
    return (height, width) if image.shape[1] >= image.shape[0] else (width, height)


def read_windows(
    path: Path, *, start_us: int, end_us: int, fps: float, frames: int, windows: int, bucket: tuple[int, int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (start_us within the clip, frames (T, H, W, 3) uint8): up to `windows` evenly spread windows.

    The clip is decoded once. T is `frames`, or the longest 4k + 1 that the clip holds; an image gives T = 1.

    Raises:
        GokuError: nothing could be decoded, or the clip is smaller than the bucket.
    """
    span = {} if start_us == end_us else {"start_us": start_us, "end_us": end_us, "fps": fps}
    decoded = [image for _, image in read_frames(path, **span)]  # type: ignore[arg-type]
    if not decoded:
        raise GokuError("no frames in this range")
    size = bucket_for(decoded[0], bucket)
    small = np.stack([crop_to(image, *size) for image in decoded])
    length = min(frames, 1 + (len(small) - 1) // STRIDE * STRIDE)
    spare = len(small) - length
    count = min(windows, spare + 1)
    starts = sorted({round(i * spare / max(count - 1, 1)) for i in range(count)})
    for start in starts:
        yield round(start * 1_000_000 / fps), small[start : start + length]
