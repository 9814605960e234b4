"""Training an image-video VAE of the Wan class from scratch, on frames of the selected clips."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goku_cli.media.window import read_windows
from goku_cli.model.linear_codec import to_unit
from goku_cli.model.noise import stream
from goku_cli.model.wan_codec import TINY, WanCodec, build_wan
from goku_cli.train.data import HELD_OUT_SHARE
from goku_cli.train.settings import Recipe

HELD_OUT_CLIPS = 16
MAX_CLIPS = 2_000
"""Clips held in memory as frames (a 9 x 48 x 80 window is 100 kB)."""


@dataclass(frozen=True)
class Frames:
    """A batch on its way to the loss."""

    video: Tensor
    """(B, 3, T, H, W) in [-1, 1]"""
    noise: Tensor
    """Of the posterior, like its mean."""

    def to(self, device: torch.device) -> "Frames":
        """Return the same on another device."""
        return Frames(self.video.to(device), self.noise.to(device))


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
    """Reconstruction (L1) and KL on images and videos jointly."""

    def __init__(self, recipe: Recipe, clips: pd.DataFrame, rank: int, world: int) -> None:
        self.recipe = recipe
        self.rank = rank
        self.tokens = recipe.train.tokens_per_step // world
        torch.manual_seed(recipe.train.seed)
        self.wan = TINY | {"base_dim": recipe.vae.base_dim, "z_dim": recipe.vae.latent_channels}
        for name, value in (("latents_mean", 0.0), ("latents_std", 1.0)):
            self.wan[name] = [value] * recipe.vae.latent_channels
        self.model: nn.Module = AutoEncode(build_wan(self.wan))
        held = clips["clip"].map(lambda clip: int(clip[:8], 16) % HELD_OUT_SHARE == 0)
        self.held_out = self._load(clips[held if held.any() else ~held].head(HELD_OUT_CLIPS))
        self.images: list[Tensor] = []
        self.videos: list[Tensor] = []
        for video in self._load(clips[~held if not held.all() else held].head(MAX_CLIPS)):
            (self.videos if video.shape[1] > 1 else self.images).append(video)

    def _load(self, clips: pd.DataFrame) -> list[Tensor]:
        settings, found = self.recipe.vae, []
        height, _, width = settings.size.partition("x")
        for row in clips.itertuples():
            windows = read_windows(
                Path(row.source_path), start_us=row.start_us, end_us=row.end_us, fps=settings.fps,
                frames=settings.frames, windows=1, bucket=(int(height), int(width)),
            )  # fmt: skip
            found += [to_unit(frames) for _, frames in windows]
        return found

    def batches(self, step: int) -> Iterable[Frames]:
        """Yield the one batch of a step: videos of one kind and size."""
        rng = stream(self.recipe.train.seed, "batch", step, self.rank)
        pool = self.images if rng.random() < self.recipe.vae.image_share else self.videos
        pool = pool or self.images or self.videos
        first = pool[int(rng.integers(len(pool)))]
        alike = [video for video in pool if video.shape == first.shape]
        _, frames, height, width = first.shape
        latent = (1 + (frames - 1) // 4, height // 8, width // 8)
        count = max(1, self.tokens // (latent[0] * latent[1] * latent[2]))
        video = torch.stack([alike[int(i)] for i in rng.integers(len(alike), size=count)])
        shape = (count, self.recipe.vae.latent_channels, *latent)
        yield Frames(video, torch.from_numpy(rng.standard_normal(shape, dtype="float32")))

    def loss(self, model: nn.Module, batch: Frames) -> Tensor:
        """Return L1 reconstruction + KL, per pixel."""
        restored, mean, logvar = model(batch.video, batch.noise)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / batch.video.numel()
        return F.l1_loss(restored.float(), batch.video) + self.recipe.vae.kl * kl

    def diagnose(self) -> dict[str, float | str]:
        """Return nothing: the loss is all there is to say."""
        return {}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return L1 and PSNR (dB, of the range [-1, 1]) of held-out clips, decoded from the posterior's mean."""
        device = next(model.parameters()).device
        l1, square = [], []
        for video in self.held_out:
            latent = (1, self.recipe.vae.latent_channels, 1 + (video.shape[1] - 1) // 4,
                      video.shape[2] // 8, video.shape[3] // 8)  # fmt: skip
            restored = model(video[None].to(device), torch.zeros(latent, device=device))[0][0].cpu().clamp(-1, 1)
            l1.append(float((restored - video).abs().mean()))
            square.append(float((restored - video).square().mean()))
        mse = sum(square) / len(square)
        return {"held_out_loss": sum(l1) / len(l1), "psnr": float(10 * torch.log10(torch.tensor(4 / mse)))}

    @torch.no_grad()
    def export(self, folder: Path, weights: dict[str, Tensor], ema: dict[str, Tensor]) -> dict[str, Any]:
        """Write the averaged weights as a codec folder whose latents have unit variance."""
        vae = build_wan(self.wan)
        vae.load_state_dict({name.removeprefix("vae."): value for name, value in ema.items()})
        codec = WanCodec(vae, self.wan, 1.0)
        latents = torch.cat([codec.encode(video).flatten() for video in self.held_out])
        codec.scale = float(1 / latents.std().clamp_min(1e-6))
        codec.save(folder)
        return {"kind": "vae"}
