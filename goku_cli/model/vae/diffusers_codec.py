"""The causal 3D convolutional VAEs of diffusers that share the paper's strides: those of Wan, CogVideoX, HunyuanVideo.

A folder is what diffusers' own `save_pretrained` writes: config.json and diffusion_pytorch_model.safetensors, whole or
in shards. Temporal chunks are the classes' own: Wan and CogVideoX carry the state of their causal convolutions from
one chunk to the next, HunyuanVideo blends overlapping ones.
"""

import inspect
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from goku_cli.errors import GokuError, UsageError
from goku_cli.model.vae.codec import Moments, Statistics, check_frames
from goku_cli.model.weights.published import read_json, read_weights

PERIODS = {"AutoencoderKLWan": 4, "AutoencoderKLHunyuanVideo": 4, "AutoencoderKLCogVideoX": 8}
"""Clips have k * period + 1 frames. CogVideoX decodes an even number of latent frames as that many chunks of 8."""
SPACE, TIME = 8, 4
OVERLAP = 4
"""Neighboring tiles share one part in so many of their side, and are blended there."""
TILE_STEP = OVERLAP * SPACE
"""Tiles of a multiple of this begin, end and overlap on whole latent positions."""


def build(config: dict[str, Any]) -> nn.Module:
    """Return the model that a diffusers config.json describes, with random weights; other keys are passed over."""
    import diffusers

    kind = getattr(diffusers, config["_class_name"])
    known = inspect.signature(kind.__init__).parameters
    return cast(nn.Module, kind(**{name: value for name, value in config.items() if name in known}))


class DiffusersCodec:
    """Encode to the moments of the posterior and decode latents, by a VAE of diffusers."""

    def __init__(self, model: nn.Module, config: dict[str, Any]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.config = config
        self.statistics = statistics_of(model.config)
        self.channels = channels_of(model.config)
        self.period = PERIODS[config["_class_name"]]

    @classmethod
    def load(cls, folder: Path, tile: int = 0) -> "DiffusersCodec":
        """Load a folder; see `model.codec.load_codec`."""
        config = read_json(folder / "config.json")
        with torch.device("meta"):
            model = _described(config, folder)
        weights = read_weights(folder)
        _check_shapes(model, weights, folder)
        model.load_state_dict({name: x.float() for name, x in weights.items()}, assign=True)
        if tile:
            _set_tile(model, tile)
        return cls(model, config)

    def to(self, device: Any) -> Self:
        """Move to a device."""
        self.model.to(device)
        return self

    def check_frames(self, frames: int) -> None:
        """Refuse a number of frames of which the class would drop some in silence (UsageError)."""
        check_frames(frames, self.period)

    @torch.no_grad()
    def moments(self, video_3THW: Tensor) -> Moments:
        """Return mean and log-variance (C, t, H/8, W/8) of a clip's posterior; the clip is (3, T, H, W) in [-1, 1].

        Raises:
            UsageError: T is not k * period + 1.
        """
        self.check_frames(video_3THW.shape[1])
        posterior = self.model.encode(video_3THW[None]).latent_dist  # type: ignore[operator]
        return Moments(posterior.mean[0], posterior.logvar[0])

    @torch.no_grad()
    def decode(self, z_CTHW: Tensor) -> Tensor:
        """Return the clip (3, T, H, W) in about [-1, 1] of a latent."""
        return cast(Tensor, self.model.decode(z_CTHW[None]).sample[0])  # type: ignore[operator]


def channels_of(config: Any) -> int:
    """Return the latent channels of a model's configuration."""
    return int(config.get("z_dim") or config["latent_channels"])


def statistics_of(config: Any) -> Statistics | None:
    """Return the statistics that a model's configuration names, or None when they would change nothing.

    Wan has means and deviations by channel, the others one factor (and CogVideoX room for one shift).
    """
    channels = channels_of(config)
    if config.get("latents_mean") is not None and config.get("latents_std") is not None:
        found = Statistics(tuple(config["latents_mean"]), tuple(config["latents_std"]))
    else:
        shift = config.get("shift_factor") or 0.0
        found = Statistics((shift,) * channels, (1 / config["scaling_factor"],) * channels)
    return None if found == Statistics.identity(channels) else found


def _described(config: dict[str, Any], folder: Path) -> nn.Module:
    """Return the model of a configuration, without memory, after asking it for its strides.

    Raises:
        UsageError: there is no such model, or its strides are not 4 x 8 x 8 (Wan 2.2's 5B model has another VAE).
    """
    frames = PERIODS[config["_class_name"]] + 1
    try:
        model = build(config)
        with torch.no_grad():
            mean = model.encode(torch.empty(1, 3, frames, 2 * SPACE, 2 * SPACE)).latent_dist.mean  # type: ignore[operator]
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{folder}/config.json describes no {config['_class_name']} ({reason}); fetch it again"
                         ) from error  # fmt: skip
    if mean.shape[2:] != (1 + frames // TIME, 2, 2):
        raise UsageError(f"{folder} holds a VAE of other strides than 4x8x8, which goku has no place for; "
                         "Wan 2.1's, CogVideoX's and HunyuanVideo's have these")  # fmt: skip
    return model


def _check_shapes(model: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    wanted = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    found = {name: tuple(x.shape) for name, x in weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise GokuError(f"the weights in {folder} are not those of its config.json ({name} is "
                            f"{found.get(name, 'missing')}, expected {wanted.get(name, 'none')}); fetch both again"
                            )  # fmt: skip


def _set_tile(model: Any, tile: int) -> None:
    if tile < 2 * TILE_STEP or tile % TILE_STEP:
        raise UsageError(f"tile must be 0 (off) or a multiple of {TILE_STEP} from {2 * TILE_STEP}, not {tile}")
    sides = {"tile_sample_min_height": tile, "tile_sample_min_width": tile}
    if type(model).__name__ == "AutoencoderKLCogVideoX":
        overlap = 1 / OVERLAP
        model.enable_tiling(**sides, tile_overlap_factor_height=overlap, tile_overlap_factor_width=overlap)
    else:
        stride = tile - tile // OVERLAP
        model.enable_tiling(**sides, tile_sample_stride_height=stride, tile_sample_stride_width=stride)
