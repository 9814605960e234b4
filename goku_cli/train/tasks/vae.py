"""Training an image-video VAE of the Wan class from scratch, on frames of the selected clips.

Shapes: B clips of T frames of H x W pixels.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from goku_cli.errors import GokuError
from goku_cli.media.window import read_windows
from goku_cli.model.objective.noise import stream
from goku_cli.model.vae.diffusers_codec import build
from goku_cli.model.vae.linear_codec import to_unit
from goku_cli.model.weights.checkpoint import write_weights
from goku_cli.model.weights.published import STEM
from goku_cli.sizes import parse_size
from goku_cli.train.data.prefetch import Source, ThreadPrefetcher
from goku_cli.train.recipe import Recipe
from goku_cli.train.task import Step
from goku_cli.train.tasks.discriminator import Adversary
from goku_cli.train.tasks.vae_init import begin
from goku_cli.train.tasks.vae_metrics import figures
from goku_cli.vision.distances import load_perceptual

HELD_OUT_CLIPS = 16
"""Of each kind: images and videos."""
MAX_CLIPS = 2_000
"""Clips held in memory as frames (a 9 x 48 x 80 window is 100 kB)."""
TINY: dict[str, Any] = {
    "_class_name": "AutoencoderKLWan", "dim_mult": [1, 2, 2, 2], "num_res_blocks": 1, "attn_scales": [],
    "temperal_downsample": [False, True, True], "dropout": 0.0,
}  # fmt: skip
"""Smallest useful depths; `temperal_downsample` is spelled as diffusers spells it."""


@dataclass(frozen=True)
class Frames:
    """A batch on its way to the loss."""

    video: Tensor
    """(B, 3, T, H, W) in [-1, 1]"""
    noise: Tensor
    """Of the posterior, like its mean."""
    step: int

    def to(self, device: torch.device) -> "Frames":
        """Return the same on another device."""
        return Frames(self.video.to(device), self.noise.to(device), self.step)


class AutoEncode(nn.Module):
    """Encode and decode one clip as one forward pass, which is what the engine wraps."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, video_B3THW: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstruction, and the mean and log-variance of the posterior."""
        posterior = self.vae.encode(video_B3THW).latent_dist  # type: ignore[operator]
        z = posterior.mean + posterior.std * noise
        return self.vae.decode(z).sample, posterior.mean, posterior.logvar  # type: ignore[operator]


class VaeTask:
    """Reconstruction, KL, perceptual and adversarial terms on images and videos jointly."""

    def __init__(self, recipe: Recipe, clips: pd.DataFrame, rank: int, world: int) -> None:
        self.recipe = recipe
        self.settings = recipe.vae
        self.rank = rank
        self.tokens = recipe.train.tokens_per_step // world
        torch.manual_seed(recipe.train.seed)
        channels = self.settings.latent_channels
        # Means of zero and deviations of one say that nobody has measured these latents yet.
        self.wan = TINY | {"base_dim": self.settings.base_dim, "z_dim": channels}
        self.wan |= {"latents_mean": [0.0] * channels, "latents_std": [1.0] * channels}
        vae = build(self.wan)
        begin(vae)
        self.model = AutoEncode(vae)
        self.perceptual = load_perceptual(self.settings.perceptual)
        self.adversary: Adversary | None = None
        if self.settings.adversarial_weight:
            cuda = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            device = cuda if torch.cuda.is_available() else torch.device("cpu")
            self.adversary = Adversary(self.settings.discriminator_dim, recipe.train.lr, device)
        self._terms: dict[str, Tensor] = {}
        self._reason = ""
        self.drawn = 0
        """Batches that this rank has had."""
        self._read(clips)

    def _read(self, clips: pd.DataFrame) -> None:
        held = clips["held_out"].to_numpy(bool)
        if held.all() or not held.any():  # a handful of clips: measure on what there is
            train = held_out = clips
        else:
            train, held_out = clips[~held], clips[held]
        is_image = held_out["start_us"] == held_out["end_us"]
        chosen = pd.concat([held_out[is_image].head(HELD_OUT_CLIPS), held_out[~is_image].head(HELD_OUT_CLIPS)])
        self.held_out = list(self._windows(chosen))
        windows = list(self._windows(train.head(MAX_CLIPS)))
        self.images = [window for window in windows if len(window) == 1]
        self.videos = [window for window in windows if len(window) > 1]
        if not windows or not self.held_out:
            raise GokuError(f"no clip can be trained on at {self.settings.size}, e.g. {self._reason}")

    def _windows(self, clips: pd.DataFrame) -> Iterator[np.ndarray]:
        """Yield one window (T, H, W, 3) uint8 of each clip that can be read and is large enough."""
        bucket = parse_size(self.settings.size)
        for row in clips.itertuples():
            fields = getattr(row, "fields", None)  # a run that was begun before goku measured any has none
            try:
                for _, frames in read_windows(
                    Path(row.source_path), start_us=row.start_us, end_us=row.end_us, fps=self.settings.fps,
                    frames=self.settings.frames, windows=1, bucket=bucket,
                    fields=fields if isinstance(fields, str) else None,
                ):  # fmt: skip
                    yield frames
            except (GokuError, FileNotFoundError) as error:
                self._reason = f"{row.source_path}: {error}"

    def prepare(self, step: int) -> Step:
        """Draw the one batch of a step: clips of one kind and size."""
        batch = self._batch(step)
        self.drawn += 1
        return Step([batch], [self.drawn])

    def ahead(self) -> Source:
        """Return a thread that prepares the next step: all windows lie in memory."""
        return ThreadPrefetcher(self.prepare)

    def go_to(self, position: list[int]) -> None:
        """Let the next step's clips be those that follow this position."""
        self.drawn = position[0] if position else 0

    def _batch(self, step: int) -> Frames:
        # All ranks see one kind at a time: a rank with images would wait for one with videos.
        kind = stream(self.recipe.train.seed, "kind", self.drawn)
        pool = self.images if kind.random() < self.settings.image_share else self.videos
        rng = stream(self.recipe.train.seed, "batch", self.drawn, self.rank)
        pool = pool or self.images or self.videos
        first = pool[int(rng.integers(len(pool)))]
        alike = [window for window in pool if window.shape == first.shape]
        frames, height, width, _ = first.shape
        latent = (1 + (frames - 1) // 4, height // 8, width // 8)
        count = max(1, self.tokens // (latent[0] * latent[1] * latent[2]))
        video = torch.stack([to_unit(alike[int(i)]) for i in rng.integers(len(alike), size=count)])
        shape = (count, self.settings.latent_channels, *latent)
        return Frames(video, torch.from_numpy(rng.standard_normal(shape, dtype="float32")), step)

    def loss(self, model: nn.Module, batch: Frames) -> Tensor:
        """Return the weighted sum of the terms. The discriminator, once it has begun, learns first."""
        restored, mean, logvar = model(batch.video, batch.noise)
        restored = restored.float().clone()  # the engine watches gradients of its own outputs
        # Not L1: its best single guess is the background, and small shapes are slow to leave it.
        reconstruction = F.mse_loss(restored, batch.video)
        terms = {"mse": reconstruction}
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual.to(restored.device)(pictures(restored), pictures(batch.video))
            reconstruction = reconstruction + self.settings.perceptual_weight * terms["perceptual"]
        terms["kl"] = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / batch.video.numel()
        total = reconstruction + self.settings.kl * terms["kl"]
        if self.adversary is not None and batch.step >= self.settings.adversarial_from:
            terms["discriminator"] = self.adversary.learn(batch.video, restored)
            terms["adversarial"] = self.adversary.term(restored, reconstruction)
            total = total + self.settings.adversarial_weight * terms["adversarial"]
        self._terms = {name: term.detach() for name, term in terms.items()}
        return total

    def diagnose(self) -> dict[str, float]:
        """Return the terms of this rank's last batch, unweighted but for the adversarial one."""
        return {name: float(term) for name, term in self._terms.items()}

    def records(self) -> list[dict[str, Any]]:
        """Return nothing: a loss belongs to a batch here."""
        return []

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the figures of held-out clips, decoded from the posterior's mean."""
        device = next(model.parameters()).device

        def restore(clip_3THW: Tensor) -> Tensor:
            _, frames, height, width = clip_3THW.shape
            shape = (1, self.settings.latent_channels, 1 + (frames - 1) // 4, height // 8, width // 8)
            restored: Tensor = model(clip_3THW[None], torch.zeros(shape, device=device))[0][0]
            return restored.float()

        return figures((to_unit(window).to(device) for window in self.held_out), restore, self.perceptual)

    def describe(self, folder: Path) -> dict[str, Any]:
        """Write a checkpoint's averaged weights as diffusers names them, and return what config.json says of it."""
        ema = load_file(folder / "ema.safetensors")
        write_weights(folder, f"{STEM}.safetensors", {name.removeprefix("vae."): x for name, x in ema.items()})
        return {"kind": "vae", **self.wan}

    def state(self) -> dict[str, Tensor]:
        """Return what a resumed run needs beside the model: the discriminator and its optimizer."""
        return self.adversary.state() if self.adversary else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        if self.adversary:
            self.adversary.load_state(state)


def pictures(video_B3THW: Tensor) -> Tensor:
    """Return the frames of clips, (B * T, 3, H, W)."""
    return video_B3THW.transpose(1, 2).flatten(0, 1)
