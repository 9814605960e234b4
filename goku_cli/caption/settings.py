"""What `goku caption` can be told, and what it does when it is told nothing."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from goku_cli.errors import UsageError

SERVER, LOCAL = "openai:", "transformers:"
"""How captioners that are models begin: a server's URL, a folder of weights."""


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
                _check_url(name.removeprefix(SERVER))
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


@dataclass(frozen=True)
class ServerSettings:
    """How a server is asked: nothing of it changes a caption."""

    in_flight: int = 64
    """Requests at once."""
    rate: float | None = None
    """Most requests per minute."""
    tokens_budget: int | None = None
    """Tokens, read and written, after which nothing more is asked; requests in flight may pass it."""
    price_in: float = 0.0
    price_out: float = 0.0
    """Per million tokens."""
    timeout: float = 300.0
    """Seconds to wait for one answer."""


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--captioner {SERVER}{url} is no server; e.g. {SERVER}http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise UsageError("a URL is kept in the manifest; put the key into the environment as OPENAI_API_KEY")
