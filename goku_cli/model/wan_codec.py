"""The causal 3D convolutional VAE of the Wan class (diffusers' AutoencoderKLWan), tiny or full size.

Strides, channels (16) and frame counts (4k+1) are those of the paper's VAE. `config.json` holds the class's own
configuration, in which latents_mean and latents_std are per channel, and one more scale:

    latent = (mean of the posterior - latents_mean) / latents_std * scale

Published VAEs have a scale of 1; those trained here have a scale that gives unit variance over the training clips,
and zeros and ones beside it.
"""

import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

TINY: dict[str, Any] = {
    "base_dim": 16, "z_dim": 16, "dim_mult": [1, 2, 2, 2], "num_res_blocks": 1, "attn_scales": [],
    "temperal_downsample": [False, True, True], "dropout": 0.0,
    "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16,
}  # fmt: skip
"""Smallest useful widths; `temperal_downsample` is spelled as diffusers spells it."""


def build_wan(config: dict[str, Any]) -> torch.nn.Module:
    """Return an AutoencoderKLWan with random weights."""
    from diffusers import AutoencoderKLWan

    return cast(torch.nn.Module, AutoencoderKLWan(**config))


class WanCodec:
    """Encode by the mean of the posterior, decode by the decoder; in between, latents are normalized."""

    def __init__(self, model: torch.nn.Module, config: dict[str, Any], scale: float) -> None:
        self.model = model.eval()
        self.config = config
        self.scale = scale
        self.channels = int(config["z_dim"])
        self.mean_C111 = torch.tensor(config["latents_mean"]).view(-1, 1, 1, 1)
        self.std_C111 = torch.tensor(config["latents_std"]).view(-1, 1, 1, 1)

    @classmethod
    def load(cls, folder: Path) -> "WanCodec":
        """Load what `save` wrote."""
        config = json.loads((folder / "config.json").read_text())
        model = build_wan(config["model"])
        model.load_state_dict(load_file(folder / "codec.safetensors"))
        return cls(model, config["model"], config["scale"])

    def save(self, folder: Path) -> None:
        """Write weights and configuration into an existing folder."""
        weights = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        save_file(weights, folder / "codec.safetensors")
        config = {"codec": "wan", "model": self.config, "scale": self.scale}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")

    @torch.no_grad()
    def encode(self, video_3THW: Tensor) -> Tensor:
        """Return the latent (C, t, H/8, W/8) of a clip (3, T, H, W) in [-1, 1], T = 4k + 1.

        Raises:
            ValueError: T is not 4k + 1 (the class itself would silently drop the last frames).
        """
        if video_3THW.shape[1] % 4 != 1:
            raise ValueError(f"a causal VAE takes 4k+1 frames, got {video_3THW.shape[1]}")
        posterior = self.model.encode(video_3THW[None]).latent_dist  # type: ignore[operator]
        return (posterior.mean[0] - self.mean_C111) / self.std_C111 * self.scale

    @torch.no_grad()
    def decode(self, latent_CTHW: Tensor) -> Tensor:
        """Return the clip (3, T, H, W) in about [-1, 1] of a latent."""
        z_CTHW = latent_CTHW / self.scale * self.std_C111 + self.mean_C111
        return self.model.decode(z_CTHW[None]).sample[0]  # type: ignore[operator]
