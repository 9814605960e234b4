"""One clip to draw."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goku_cli.model.vae.codec import Codec
from goku_cli.sizes import parse_size


@dataclass(frozen=True)
class Request:
    """One clip to draw, and nothing of how."""

    prompt: str
    """What was asked for."""
    seed: int
    frames: int
    """4k + 1; 1 is an image."""
    height: int = 0
    """Pixels, divisible by 16; 0 takes the size of training."""
    width: int = 0
    text: str = ""
    """What the model reads instead of the prompt: rewritten, or with a motion score; empty: the prompt."""
    negative: str = ""
    """What guidance leads away from; empty is the empty text."""
    image: str = ""
    """Path of the first frame, for an image-to-video checkpoint."""
    last_image: str = ""
    """Path of the last frame, for a checkpoint that was trained with both."""
    metadata: str | None = None
    """What a benchmark wants to see, as JSON."""

    @property
    def read(self) -> str:
        """The text that conditions the model."""
        return self.text or self.prompt


def make_request(
    data: Mapping[str, Any], codec: Codec, prompt: str, seed: int, frames: int = 0, size: str = "", **more: Any
) -> Request:
    """Return a request that takes from training (`data` of its config.json) what is not given.

    Raises:
        UsageError: a size that is not HEIGHTxWIDTH, both divisible by 16, or frames that the codec does not take.
    """
    height, width = parse_size(size or data["size"])
    frames = frames or int(data["frames"])
    codec.check_frames(frames)
    return Request(prompt, seed, frames, height, width, **more)
