"""Settings of `goku caption`, with their defaults."""

from dataclasses import dataclass
from pathlib import Path

from goku_cli.chat.settings import LOCAL, SERVER, check_url
from goku_cli.errors import UsageError


@dataclass(frozen=True)
class CaptionSettings:
    """Parameters of captioning: what is different when they are.

    Raises:
        UsageError: no captioner is named, or one that cannot be.
    """

    captioner: str = "given+measured"
    """Captioners joined by +, the preferred one first: the first that has something to say is merged."""
    motion_score: bool = True
    """Append the motion score to the caption of a video, as the paper does, so that a prompt can ask for it."""
    model: str | None = None
    """The server's model; its first one when absent."""
    merge_model: str | None = None
    """The server's model that merges captions; the same one when absent."""
    prompts: Path | None = None
    """A folder of prompts; those that ship with goku when absent."""
    key_frames: int = 8
    """Most frames that a model sees of a video, evenly spaced, at most one a second."""
    frame_captions: int = 2
    """How many of them, evenly spaced, get a caption of their own."""

    def __post_init__(self) -> None:
        if not self.steps():
            raise UsageError("--captioner names no captioner; e.g. given+measured")
        for name in self.steps():
            if name.startswith(SERVER):
                check_url(name.removeprefix(SERVER))
        if not 1 <= self.frame_captions <= self.key_frames:
            raise UsageError(f"--frame-captions must be 1 to --key-frames ({self.key_frames})")
        if not any(name.startswith(SERVER) for name in self.steps()) and (self.model or self.merge_model):
            raise UsageError(
                "--model and --merge-model are for a server; e.g. --captioner openai:http://localhost:8000/v1"
            )

    def steps(self) -> list[str]:
        """Return the captioners by name."""
        return [name.strip() for name in self.captioner.split("+") if name.strip()]

    def models(self) -> list[str]:
        """Return those that are models."""
        return [name for name in self.steps() if name.startswith((SERVER, LOCAL))]
