"""Small real films for tests: textured shots that move, with cuts and fades where a test wants them."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from goku_cli.manifest.store import Manifest
from goku_cli.media.ffmpeg import write_image, write_video
from goku_cli.split.measure import thumbnail

FPS = 24


def texture(seed: int, height: int = 90, width: int = 160) -> np.ndarray:
    """A colored picture that looks like no other, uint8 RGB, half again as wide as asked for."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 235, (5, 9, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width * 3 // 2, height), interpolation=cv2.INTER_CUBIC)
    grain = cv2.resize(rng.normal(0, 12, (height // 3, width // 2)).astype(np.float32), smooth.shape[1::-1])
    return np.clip(smooth + grain[..., None], 0, 255).astype(np.uint8)


def shot(seed: int, frames: int, height: int = 90, width: int = 160, speed: float = 0.5) -> Iterator[np.ndarray]:
    """A pan over a texture, `speed` pixels a frame."""
    wide = texture(seed, height, width)
    for number in range(frames):
        left = round(number * speed) % (width // 2)
        yield wide[:, left : left + width]


def film(path: Path, shots: list[tuple[int, int]], **size: int) -> Path:
    """Write shots of (seed, frames), one after the other."""
    write_video(path, (frame for seed, count in shots for frame in shot(seed, count, **size)), fps=FPS)
    return path


def picture(path: Path, seed: int, **size: int) -> Path:
    """Write one still."""
    write_image(path, next(shot(seed, 1, **size)))
    return path


def table(path: Path, sql: str) -> list[tuple]:
    """Rows of a query on a closed manifest."""
    with Manifest(path, read_only=True) as manifest:
        return [tuple(row.values()) for row in manifest.query(sql)]


def shot_length(clip: object) -> float:
    """A scorer of a user's own: how many samples a clip has."""
    return float(len(clip.frames))  # type: ignore[attr-defined]


def jpeg() -> bytes:
    """A JPEG as split stores it."""
    return thumbnail(next(shot(1, 1)))
