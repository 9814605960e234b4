"""From prompts to clips: a loaded checkpoint, Euler's method, one pack for many sizes.

from pathlib import Path
from goku_cli.sample.generate import Generator, Request

generator = Generator.load(Path("runs/shapes-1a2b3c4d"))
for request, frames in generator.generate([Request("a red circle", seed=0, frames=1)], steps=25, guidance=3.0):
    ...  # frames: uint8 (T, H, W, 3)
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goku_cli.errors import UsageError
from goku_cli.model import checkpoint, flow
from goku_cli.model.codec import Codec, codec_fingerprint, load_codec
from goku_cli.model.linear_codec import to_frames
from goku_cli.model.noise import noise
from goku_cli.model.packing import pack, unpack
from goku_cli.model.presets import ModelConfig
from goku_cli.model.text import TextEncoder, load_text_encoder
from goku_cli.model.transformer import Goku

BATCH_TOKENS = 16_384
"""Vision tokens that are sampled together."""


@dataclass(frozen=True)
class Request:
    """One clip to draw."""

    prompt: str
    seed: int
    frames: int
    """4k + 1; 1 is an image."""
    height: int = 0
    """Pixels, divisible by 16; 0 takes the size of training."""
    width: int = 0
    metadata: str | None = None
    """What a benchmark wants to see, as JSON."""


class Generator:
    """A trained model with its codec and text encoder."""

    def __init__(self, model: Goku, codec: Codec, text: TextEncoder, config: dict[str, Any]) -> None:
        self.model = model.eval()
        self.codec = codec
        self.text = text
        self.config = config
        self.device = next(model.parameters()).device
        self._states: dict[str, Tensor] = {}

    @classmethod
    def load(cls, path: Path, weights: str = "ema") -> "Generator":
        """Load a checkpoint, or the newest of a run's folder, onto the GPU when there is one.

        Raises:
            UsageError: no checkpoint there, a VAE's, or its codec is gone or not the one it was trained with.
            GokuError: a file is damaged.
        """
        folder = checkpoint.resolve(path)
        config = checkpoint.read_config(folder)
        if config.get("kind") != "flow":
            raise UsageError(f"{folder} holds a VAE; use it with: goku encode-latents MANIFEST --vae {folder}")
        model_values = config["model"] | {"rope_split": tuple(config["model"]["rope_split"])}
        model = Goku(ModelConfig(**model_values))
        model.load_state_dict(checkpoint.read_weights(folder, f"{'ema' if weights == 'ema' else 'model'}.safetensors"))
        codec_folder = Path(config["data"]["codec"])
        codec = load_codec(codec_folder)
        if codec_fingerprint(codec_folder) != config["data"]["codec_sha256"]:
            raise UsageError(f"{codec_folder} is not the VAE that {folder} was trained with")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.to(device), codec, load_text_encoder(config["data"]["text"]), config)

    @property
    def fps(self) -> float:
        """Frames per second of what it draws."""
        return float(self.config["data"]["fps"])

    def default_request(self, prompt: str, seed: int, frames: int = 0, size: str = "") -> Request:
        """Return a request that takes from training what is not given.

        Raises:
            UsageError: a size that is not HEIGHTxWIDTH, both divisible by 16.
        """
        height, _, width = (size or self.config["data"]["size"]).partition("x")
        if not (height.isdigit() and width.isdigit()) or int(height) % 16 or int(width) % 16:
            raise UsageError(f"--size must be HEIGHTxWIDTH, both divisible by 16, e.g. 48x80, not {size}")
        return Request(prompt, seed, frames or int(self.config["data"]["frames"]), int(height), int(width))

    def latent_shape(self, request: Request) -> tuple[int, int, int, int]:
        """Return the shape (C, t, H/8, W/8) of a request's latent."""
        return (self.codec.channels, 1 + (request.frames - 1) // 4, request.height // 8, request.width // 8)

    @torch.no_grad()
    def generate(self, requests: list[Request], *, steps: int, guidance: float) -> Iterator[tuple[Request, np.ndarray]]:
        """Yield every request with its frames (T, H, W, 3) uint8, in batches of mixed sizes."""
        batch: list[Request] = []
        for request in requests:
            batch.append(request)
            if sum(int(np.prod(self.latent_shape(r)[1:])) // 4 for r in batch) >= BATCH_TOKENS:
                yield from self._batch(batch, steps, guidance)
                batch = []
        if batch:
            yield from self._batch(batch, steps, guidance)

    def _batch(self, requests: list[Request], steps: int, guidance: float) -> Iterator[tuple[Request, np.ndarray]]:
        shapes = [self.latent_shape(request) for request in requests]
        x_0 = [noise(shape, request.seed) for shape, request in zip(shapes, requests, strict=True)]
        texts = [self._text(request.prompt) for request in requests]
        guided = guidance != 1
        # Both branches of guidance ride in one pack: first with the prompts, then with the empty text.
        copies = 2 if guided else 1
        both = pack(x_0 * copies, texts + [self._text("")] * (len(texts) * (copies - 1))).to(self.device)
        n = len(both.tokens) // copies

        def field(x_NC: Tensor, t: float) -> Tensor:
            times = torch.full((len(requests) * copies,), t, device=self.device)
            v = self.model(replace(both, tokens=x_NC.repeat(copies, 1)), times)
            return flow.guide(v[:n], v[n:], guidance) if guided else v

        times = flow.time_grid(steps, self.config["flow"]["shift"])
        *_, x_1 = flow.euler(field, both.tokens[:n], times)
        for request, latent in zip(requests, unpack(x_1.cpu(), shapes), strict=True):
            yield request, to_frames(self.codec.decode(latent))

    def _text(self, prompt: str) -> Tensor:
        if prompt not in self._states:
            self._states[prompt] = self.text.encode(prompt)
        return self._states[prompt]
