"""From prompts to clips: a loaded checkpoint, a solver, one pack for many sizes.

from pathlib import Path
from goku_cli.sample.generate import Generator, Request, SampleSettings

generator = Generator.load(Path("runs/shapes-1a2b3c4d"))
request = generator.request("a red circle moving left", seed=0)
for clip in generator.generate([request], SampleSettings(steps=25, guidance=3.0)):
    clip.frames  # uint8 (T, H, W, 3)
"""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goku_cli.errors import UsageError
from goku_cli.model.network.packing import token_count
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import Goku
from goku_cli.model.objective.noise import noise
from goku_cli.model.objective.objective import Objective
from goku_cli.model.sampling.guidance import BATCH_TOKENS, Drawn, Guidance, Share, batches, draw
from goku_cli.model.sampling.solvers import check_solver
from goku_cli.model.text.encoders import TextEncoder, load_text_encoder
from goku_cli.model.vae.codec import Codec, latent_statistics
from goku_cli.model.vae.linear_codec import to_frames
from goku_cli.model.weights import checkpoint
from goku_cli.recipe import build
from goku_cli.sample.conditions import Conditions, check
from goku_cli.sample.request import Request, make_request
from goku_cli.sample.residence import Residence, activation_bytes, choose, weight_bytes
from goku_cli.sample.settings import SampleSettings
from goku_cli.stage import Progress, Quiet

THRESHOLDS = (0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
"""Of the step cache, tried from the boldest down."""
CALIBRATED = 4
"""Requests by which a threshold is found."""


@dataclass(frozen=True)
class Clip:
    """One request, drawn."""

    request: Request
    frames: np.ndarray
    """uint8 (T, H, W, 3)"""
    latent: Tensor
    """(C, t, H/8, W/8), float32, as the VAE decodes it. Same seed, same machine: same bytes."""


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
        self, model: Goku, codec: Codec, text: TextEncoder | None, config: dict[str, Any], objective: Objective,
        device: torch.device, offload: str = "auto",
    ) -> None:  # fmt: skip
        self.config = config
        self.objective = objective
        self.device = device
        self.statistics = latent_statistics(config["data"], codec)
        self.classes = [row["text"] for row in config["data"].get("classes", [])]
        self.text = text
        self.conditions = Conditions(model.config, text, self.classes, self.statistics)
        self._residence = Residence(device, _mode(offload, model, codec, text, device))
        self.model = self._residence.settle(model.eval())
        self.codec = self._residence.settle(codec)
        if text is not None:
            text.model = self._residence.settle(text.model)
        self.skipped = 0.0
        """With a cache: the share of evaluations in which all blocks but the first were skipped."""

    @classmethod
    def load(
        cls, path: Path, weights: str = "ema", tile: int = 0, *, device: str = "", offload: str = "auto"
    ) -> "Generator":
        """Load a checkpoint, or the newest of a run's folder, for the GPU when there is one.

        Args:
            weights: ema, raw, or an average of another decay, as ema-0.99.
            tile: side in pixels of the squares that the VAE decodes in, to save memory; 0 decodes whole frames.
            device: of torch; empty is the first GPU, or without one the CPU.
            offload: what waits in the host's memory (sample/residence.py).

        Raises:
            UsageError: an impossible `tile`, no checkpoint there, a VAE's, an older goku's, its codec is gone or not
                the one it was trained with, or the GPU is too small.
            GokuError: a file is damaged.
        """
        folder = checkpoint.resolve(path)
        config = checkpoint.read_config(folder)
        objective = objective_of(config, folder)
        codec = checkpoint.read_codec(folder, config, tile)
        model = Goku(build(ModelConfig, config["model"], where=f"{folder}/config.json"))
        model.load_state_dict(checkpoint.read_weights(folder, checkpoint.weights_file(folder, weights)))
        text = load_text_encoder(config["data"]["text"]) if model.config.text_dim else None
        found = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model, codec, text, config, objective, found, offload)

    @property
    def fps(self) -> float:
        """Frames per second of what it draws."""
        return float(self.config["data"]["fps"])

    def request(self, prompt: str, seed: int, frames: int = 0, size: str = "", **more: Any) -> Request:
        """Return a request that takes from training what is not given; `more` are other fields of it.

        Raises:
            UsageError: a size that is not HEIGHTxWIDTH, both divisible by 16, or frames that the codec does not take.
        """
        return make_request(self.config["data"], self.codec, prompt, seed, frames, size, **more)

    def latent_shape(self, request: Request) -> tuple[int, int, int, int]:
        """Return the shape (C, t, H/8, W/8) of a request's latent."""
        return (self.codec.channels, 1 + (request.frames - 1) // 4, request.height // 8, request.width // 8)

    @torch.no_grad()
    def generate(
        self, requests: list[Request], settings: SampleSettings | None = None, *,
        wanted: Collection[Request] | None = None, share: Share | None = None, progress: Progress | None = None,
    ) -> Iterator[Clip]:  # fmt: skip
        """Yield every request as a clip, in batches of mixed sizes.

        Args:
            wanted: those that are yielded; a batch without any is not drawn. Rounding depends on what is drawn
                together, so that going on with all requests gives the bytes that were not finished before.
            share: the ranks that draw every pack together, each with the same requests; the first gets the clips.
            progress: moved by every step of every clip.

        Raises:
            UsageError: no such solver or none for this model's objective, or a request that this model cannot draw.
        """
        settings = settings or SampleSettings()
        how = self._guidance(settings)
        check(requests, self.model.config, self.text, self.classes)
        self._read(requests)
        if settings.cache and requests:
            how = replace(how, cache=self.calibrate(requests, settings))
        progress = progress or Quiet()
        wanted = set(requests if wanted is None else wanted)
        evaluations = skipped = 0
        for part in batches([self.latent_shape(request) for request in requests]):
            if not wanted.intersection(requests[part]):
                continue
            drawn = self._draw(requests[part], how, settings, share, progress)
            evaluations, skipped = evaluations + drawn.evaluations, skipped + drawn.skipped
            self.skipped = skipped / max(evaluations, 1)
            if share is not None and share.rank:
                continue
            with self._residence.turn(self.codec):
                for request, latent in zip(requests[part], drawn.latents, strict=True):
                    if request not in wanted:
                        continue
                    z = self.statistics.restore(latent)
                    yield Clip(request, to_frames(self.codec.decode(z).cpu()), z.float().cpu())

    def calibrate(self, requests: list[Request], settings: SampleSettings) -> float:
        """Return the boldest threshold of the step cache whose drift is at most `settings.cache` on all of a few
        requests, taken evenly from these.

        Drift is the root mean square difference from the latent that is drawn in full, over that latent's own; 0 is
        returned when no threshold keeps to the bound.
        """
        some = [requests[i * len(requests) // CALIBRATED] for i in range(CALIBRATED)]
        few = sorted(dict.fromkeys(some), key=requests.index)
        self._read(few)
        how = self._guidance(settings)
        exact = self._draw(few, how, settings, None, Quiet()).latents
        for threshold in THRESHOLDS:
            bold = self._draw(few, replace(how, cache=threshold), settings, None, Quiet()).latents
            drifts = [float((a - b).norm() / b.norm()) for a, b in zip(bold, exact, strict=True)]
            if max(drifts) <= settings.cache:
                return threshold
        return 0.0

    def _guidance(self, settings: SampleSettings) -> Guidance:
        check_solver(settings.solver, self.objective.kind)
        if settings.image_guidance and not self.model.config.image_condition:
            raise UsageError("--image-guidance is for a checkpoint that takes a first frame")
        return Guidance(
            settings.steps, settings.guidance, settings.solver, settings.image_guidance, settings.interval,
            settings.zero_init,
        )  # fmt: skip

    def _read(self, requests: list[Request]) -> None:
        with self._residence.turn(self.text.model) if self.text else contextlib.nullcontext():
            self.conditions.read_texts(requests)
        if any(request.image for request in requests):
            with self._residence.turn(self.codec):
                self.conditions.read_images(requests, self.codec, self.device)

    def _draw(
        self, requests: list[Request], how: Guidance, settings: SampleSettings, share: Share | None, progress: Progress
    ) -> Drawn:
        x_0 = [noise(self.latent_shape(request), request.seed) for request in requests]
        conditions = [self.conditions.of(request) for request in requests]
        trained_so = self.config.get("bf16", self.device.type == "cuda")  # published weights do not say
        half = settings.dtype == "bfloat16" or (settings.dtype == "auto" and trained_so)
        with (
            self._residence.transformer_turn(self.model),
            torch.autocast(self.device.type, torch.bfloat16, enabled=half),
        ):
            return draw(
                self.model, self.objective, x_0, conditions, how, self.device, share=share,
                stepped=lambda: progress.advance(len(requests)),
            )  # fmt: skip


def _mode(offload: str, model: Goku, codec: Codec, text: TextEncoder | None, device: torch.device) -> str:
    """Return what has to wait in the host's memory."""
    if device.type != "cuda":
        return "none"
    module = getattr(codec, "model", None)
    longest = 3 * max(BATCH_TOKENS, token_count((1, 25, 60, 108)))  # branches of a batch, or of one clip of 480x864x97
    return choose(
        offload, text=weight_bytes(text.model) if text else 0, transformer=weight_bytes(model),
        vae=weight_bytes(module) if isinstance(module, torch.nn.Module) else 0,
        blocks=weight_bytes(model.blocks[0]), working=activation_bytes(model.config, longest),
        free=torch.cuda.mem_get_info(device)[0],
    )  # fmt: skip
