"""Metadata of a WebDataset sample of latents: one window of a clip, its encoders and its captions.

    KEY.latent.npy      the posterior's mean (C, t, H/8, W/8), float16 or float32
    KEY.logvar.npy      its log-variance, when the VAE gives one
    KEY.txt             the caption that was chosen
    KEY.text-0.npy      the states (tokens, width) of the first of `captions`, KEY.text-1.npy of the second, ...
    KEY.json            this module's `Window`

KEY is CLIP-START, or CLIP-START-flipped of a mirrored window. Every sample is complete: the states of the empty text,
which guidance needs, are among its captions.
"""

from dataclasses import dataclass
from typing import Any

INDEX = "index.json"
"""Beside the tars."""
MEAN, LOGVAR, INFO, CHOSEN = "latent.npy", "logvar.npy", "json", "txt"


@dataclass(frozen=True)
class Encoder:
    """A row of `encoders`, without the place where its files lie on some machine."""

    id: str
    kind: str
    name: str
    settings: dict[str, Any] | None
    codec: str | None = None
    """Folder of a linear VAE beside the tars."""


@dataclass(frozen=True)
class Caption:
    """A text that training may draw, encoded."""

    text: str
    states: str
    """The member that holds them, without KEY."""
    tokens: int
    full_tokens: int
    """Before it was cut."""
    crc: int
    encoder: Encoder


@dataclass(frozen=True)
class Window:
    """One window of a clip; the fields are those of its row in `latents` and, `weight`, in `selections`."""

    clip: str
    start_us: int
    flipped: bool
    bucket: str
    frames: int
    fps: float
    shape: tuple[int, ...]
    crc: int
    weight: float
    conflict: str | None
    """What the chosen caption contradicts; goku does not train on such a clip."""
    encoder: Encoder
    captions: tuple[Caption, ...]

    @property
    def key(self) -> str:
        """The name of its sample, and of its tensor in a shard."""
        return f"{self.clip}-{self.start_us}" + ("-flipped" if self.flipped else "")
