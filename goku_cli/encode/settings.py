"""What encode-latents may be told; the defaults are the toy bucket of the embedded codec."""

from dataclasses import dataclass

from goku_cli.errors import UsageError


@dataclass(frozen=True)
class EncodeSettings:
    """The bucket, the frame windows and the encoders."""

    vae: str = "linear"
    """`linear` (fitted here, on first use) or the folder of a trained codec."""
    text: str = "tiny"
    size: str = "48x80"
    """Height x width of landscape clips, each divisible by 16; portrait clips get the turned twin."""
    frames: int = 9
    """Frames of a window, 4k + 1; shorter clips get the longest 4k + 1 that fits."""
    fps: float = 8.0
    windows: int = 4
    """At most this many windows per clip, evenly spread."""
    channels: int = 16
    """Latent channels of the linear codec; a trained codec brings its own."""

    def __post_init__(self) -> None:
        if self.frames % 4 != 1:
            raise UsageError(f"--frames must be 4k+1 (1, 5, 9, ..., 97), not {self.frames}")
        if self.fps <= 0 or self.windows < 1:
            raise UsageError("--fps and --windows must be positive")
        height, width = self.bucket
        if height % 16 or width % 16 or not height or not width:
            raise UsageError(f"--size must be HEIGHTxWIDTH, both divisible by 16, e.g. 480x864, not {self.size}")

    @property
    def bucket(self) -> tuple[int, int]:
        """(height, width) of landscape clips."""
        height, _, width = self.size.partition("x")
        if not (height.isdigit() and width.isdigit()):
            raise UsageError(f"--size must be HEIGHTxWIDTH, e.g. 48x80, not {self.size}")
        return int(height), int(width)
