"""Settings of encode-latents; the defaults are the toy bucket of the embedded codec."""

import zlib
from dataclasses import dataclass
from typing import Self

from goku_cli.errors import UsageError
from goku_cli.sizes import parse_size

BUCKETS = {"288p": "288x512", "480p": "480x864", "720p": "720x1280"}
"""Sizes of the paper's three training stages."""
DTYPES = ("float16", "float32")
TEXT_DTYPES = (*DTYPES, "int8")


@dataclass(frozen=True)
class EncodeSettings:
    """The bucket, the frame windows and the encoders."""

    vae: str = "linear"
    """`linear` (fitted here, on first use) or the folder of a VAE."""
    text: str = "tiny"
    size: str = "48x80"
    """Height x width of landscape clips, each divisible by 16; portrait clips get the turned twin."""
    frames: int = 9
    """Frames of a window, 4k + 1; shorter clips get the longest 4k + 1 that fits."""
    fps: float = 8.0
    windows: int = 4
    """At most this many windows per clip, evenly spread."""
    channels: int = 32
    """Latent channels of the linear codec; a trained codec brings its own."""
    allow_upscale: bool = False
    """Enlarge clips that are smaller than the bucket; without it they fail."""
    flip: bool = False
    """Encode every window mirrored as well."""
    dtype: str = "float16"
    """Of the stored latents, and of text states where nothing else is said."""
    text_dtype: str = ""
    """Of the stored text states: float16, float32, or int8 with a scale a row, which takes half of float16's room."""
    tile: int = 0
    """Side in pixels of the squares that the VAE works in, to save memory; 0 works on whole frames."""

    def __post_init__(self) -> None:
        if self.frames % 4 != 1:
            raise UsageError(f"--frames must be 4k+1 (1, 5, 9, ..., 97), not {self.frames}")
        if self.fps <= 0 or self.windows < 1:
            raise UsageError("--fps and --windows must be positive")
        if self.dtype not in DTYPES:
            raise UsageError(f"--dtype must be {' or '.join(DTYPES)}, not {self.dtype}")
        if self.text_dtype and self.text_dtype not in TEXT_DTYPES:
            raise UsageError(f"--text-dtype must be one of {', '.join(TEXT_DTYPES)}, not {self.text_dtype}")
        parse_size(self.size)

    @property
    def states(self) -> str:
        """The type of the stored text states."""
        return self.text_dtype or self.dtype

    @property
    def bucket(self) -> tuple[int, int]:
        """(height, width) of landscape clips."""
        return parse_size(self.size)


def size_of(bucket: str | None, size: str | None) -> str:
    """Return HEIGHTxWIDTH of a named bucket, or of `size`, or the default.

    Raises:
        UsageError: both are given, or there is no such bucket.
    """
    if bucket is None:
        return size or EncodeSettings.size
    if size is not None:
        raise UsageError("give --bucket or --size, not both")
    if bucket not in BUCKETS:
        raise UsageError(f'unknown bucket "{bucket}"; known: {", ".join(BUCKETS)}; others by --size HEIGHTxWIDTH')
    return BUCKETS[bucket]


@dataclass(frozen=True)
class Slice:
    """One machine's part of the work: the `index`-th (from 1) of `count` disjoint parts, by id alone."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `3/8`.

        Raises:
            UsageError: it is not of that form, or there is no such part.
        """
        index, _, count = text.partition("/")
        if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
            raise UsageError(f"--shard must be I/N with I from 1 to N, e.g. 3/8, not {text}")
        return cls(int(index), int(count))

    def holds(self, key: str) -> bool:
        """Say whether an id belongs to this part."""
        return zlib.crc32(key.encode()) % self.count == self.index - 1
