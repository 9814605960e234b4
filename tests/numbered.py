"""Films whose frames carry their own number as a strip of black and white blocks: what is read says which it was."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from films import FPS, texture

from goku_cli.media.ffmpeg import executable

BITS = 10
HEIGHT, WIDTH = 192, 320
SHOTS = (40, 44, 60)
STARTS = (0, 40, 84, 144)


def numbered(number: int, seed: int) -> np.ndarray:
    """One frame: a texture that slowly moves, above a strip with the number in Gray code (one block a frame flips)."""
    frame = texture(seed, HEIGHT, WIDTH)[:, number // 2 : number // 2 + WIDTH].copy()
    for bit in range(BITS):
        frame[-32:, bit * 32 : bit * 32 + 32] = 185 if (number ^ number >> 1) >> bit & 1 else 70
    return frame


def read_number(frame: np.ndarray) -> int:
    """Read the strip of a frame of any size."""
    height, width, _ = frame.shape
    row = round(height * (1 - 16 / HEIGHT))
    code = [frame[row, int((bit + 0.5) * width / BITS)].mean() > 128 for bit in range(BITS)]
    return sum((sum(code[bit:]) % 2) << bit for bit in range(BITS))


def encode(
    path: Path, *options: str, given: tuple[str, ...] = (), turns: int = 0, shots: Iterable[int] = SHOTS
) -> Path:
    """Encode shots with ffmpeg's own `options`; `given` stand before the input."""
    counts = list(shots)
    seeds = np.repeat(np.arange(len(counts)) + 1, counts)
    raw = b"".join(np.rot90(numbered(n, int(seed)), -turns).tobytes() for n, seed in enumerate(seeds))
    size = f"{HEIGHT}x{WIDTH}" if turns % 2 else f"{WIDTH}x{HEIGHT}"
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-framerate", str(FPS), *given, "-i", "pipe:")
    coded = ("-pix_fmt", "yuv420p", "-preset", "veryfast", "-crf", "18", *options, str(path))
    subprocess.run([executable(), "-loglevel", "error", "-y", *source, *coded], input=raw, check=True)
    return path


def ffmpeg(*arguments: object) -> None:
    """Run ffmpeg."""
    subprocess.run([executable(), "-loglevel", "error", "-y", *map(str, arguments)], check=True)
