"""From prompts to clips: a loaded checkpoint, a solver, one pack for many sizes.

from pathlib import Path
from goku_cli.sample.generate import Generator, Request

generator = Generator.load(Path("runs/shapes-1a2b3c4d"))
for request, frames in generator.generate([Request("a red circle", seed=0, frames=1)], steps=25, guidance=3.0):
    ...  # frames: uint8 (T, H, W, 3)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goku_cli.errors import UsageError
from goku_cli.model import checkpoint
from goku_cli.model.codec import Codec, codec_fingerprint, latent_statistics, load_codec
from goku_cli.model.guidance import Guidance, batches, draw
from goku_cli.model.linear_codec import to_frames
from goku_cli.model.noise import noise
from goku_cli.model.objective import Objective
from goku_cli.model.presets import ModelConfig
from goku_cli.model.solvers import check_solver
from goku_cli.model.text import TextEncoder, load_text_encoder
from goku_cli.model.transformer import Goku
from goku_cli.recipe import build
from goku_cli.sample.settings import SampleSettings
from goku_cli.sizes import parse_size


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


def objective_of(config: dict[str, Any], folder: Path) -> Objective:
    """Return the objective that a transformer's checkpoint was trained with, from its config.json.

    Raises:
        UsageError: it holds a VAE, or was made by an older goku.
    """
    if config.get("kind") != "flow":
        raise UsageError(f"{folder} holds a VAE; use it with: goku encode-latents MANIFEST --vae {folder}")
    if "objective" not in config:
        raise UsageError(f"{folder} was made by an older goku; train again with: goku train RECIPE MANIFEST")
    return build(Objective, config["objective"], where=f"{folder}/config.json")


class Generator:
    """A trained model with its codec and text encoder."""

    def __init__(
        self, model: Goku, codec: Codec, text: TextEncoder, config: dict[str, Any], objective: Objective
    ) -> None:
        self.model = model.eval()
        self.statistics = latent_statistics(config["data"], codec)
        self.text = text
        self.config = config
        self.objective = objective
        self.device = next(model.parameters()).device
        self.codec = codec.to(self.device)
        self._states: dict[str, Tensor] = {}

    @classmethod
    def load(cls, path: Path, weights: str = "ema", tile: int = 0) -> "Generator":
        """Load a checkpoint, or the newest of a run's folder, onto the GPU when there is one.

        Args:
            weights: ema, raw, or an average of another decay, as ema-0.99.
            tile: side in pixels of the squares that the VAE decodes in, to save memory; 0 decodes whole frames.

        Raises:
            UsageError: an impossible `tile`, no checkpoint there, a VAE's, an older goku's, or its codec is gone or not
                the one it was trained with.
            GokuError: a file is damaged.
        """
        folder = checkpoint.resolve(path)
        config = checkpoint.read_config(folder)
        objective = objective_of(config, folder)
        model = Goku(build(ModelConfig, config["model"], where=f"{folder}/config.json"))
        model.load_state_dict(checkpoint.read_weights(folder, checkpoint.weights_file(folder, weights)))
        codec_folder = folder / config["data"]["codec"]  # within a converted checkpoint, elsewhere for a trained one
        codec = load_codec(codec_folder, tile)
        if codec_fingerprint(codec_folder) != config["data"]["codec_sha256"]:
            raise UsageError(f"{codec_folder} is not the VAE that {folder} was trained with")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.to(device), codec, load_text_encoder(config["data"]["text"]), config, objective)

    @property
    def fps(self) -> float:
        """Frames per second of what it draws."""
        return float(self.config["data"]["fps"])

    def default_request(self, prompt: str, seed: int, frames: int = 0, size: str = "") -> Request:
        """Return a request that takes from training what is not given.

        Raises:
            UsageError: a size that is not HEIGHTxWIDTH, both divisible by 16, or frames that the codec does not take.
        """
        height, width = parse_size(size or self.config["data"]["size"])
        frames = frames or int(self.config["data"]["frames"])
        self.codec.check_frames(frames)
        return Request(prompt, seed, frames, height, width)

    def latent_shape(self, request: Request) -> tuple[int, int, int, int]:
        """Return the shape (C, t, H/8, W/8) of a request's latent."""
        return (self.codec.channels, 1 + (request.frames - 1) // 4, request.height // 8, request.width // 8)

    @torch.no_grad()
    def generate(
        self, requests: list[Request], *, steps: int, guidance: float, solver: str = SampleSettings.solver
    ) -> Iterator[tuple[Request, np.ndarray]]:
        """Yield every request with its frames (T, H, W, 3) uint8, in batches of mixed sizes.

        Raises:
            UsageError: no such solver or none for this model's objective, less than one step, or a prompt that is
                longer than the text encoder reads.
        """
        check_solver(solver, self.objective.kind)
        for prompt in dict.fromkeys(request.prompt for request in requests):
            if (tokens := self.text.count(prompt)) > self.text.most_tokens:
                raise UsageError(f"a prompt has {tokens} tokens, the text encoder reads {self.text.most_tokens}; "
                                 f'shorten "{prompt[:40]}..."')  # fmt: skip
        how = Guidance(steps, guidance, solver)
        for part in batches([self.latent_shape(request) for request in requests]):
            x_0 = [noise(self.latent_shape(request), request.seed) for request in requests[part]]
            texts = [self._text(request.prompt) for request in requests[part]]
            latents = draw(self.model, self.objective, x_0, texts, self._text(""), how, self.device)
            for request, latent in zip(requests[part], latents, strict=True):
                yield request, to_frames(self.codec.decode(self.statistics.restore(latent)).cpu())

    def _text(self, prompt: str) -> Tensor:
        if prompt not in self._states:
            self._states[prompt] = self.text.encode(prompt)
        return self._states[prompt]
