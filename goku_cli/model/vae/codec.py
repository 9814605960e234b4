"""What a VAE is to the rest of goku: clips (3, T, H, W) in [-1, 1] to posteriors over latents (C, t, H/8, W/8), and
latents back to clips.

T = 4k + 1 frames become t = k + 1 latent frames; an image is one frame. A codec is a folder: one of our own, whose
config.json has a `codec` key, or a VAE as diffusers saves it, whose config.json has a `_class_name`. Latents that
enter and leave a codec are as its authors made them; the flow model sees them normalized by `Statistics`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from torch import Tensor

from goku_cli.errors import UsageError
from goku_cli.model.weights.published import read_json, weight_files
from goku_cli.publish import sha256
from goku_cli.registry import load

KINDS: Mapping[str, str] = {
    "linear": "goku_cli.model.vae.linear_codec:LinearCodec",
    "AutoencoderKLWan": "goku_cli.model.vae.diffusers_codec:DiffusersCodec",
    "AutoencoderKLCogVideoX": "goku_cli.model.vae.diffusers_codec:DiffusersCodec",
    "AutoencoderKLHunyuanVideo": "goku_cli.model.vae.diffusers_codec:DiffusersCodec",
}
OWN_WEIGHTS = "codec.safetensors"
PROVENANCE = ("_diffusers_version", "_name_or_path")
"""Keys of a config.json that say where it came from and not what it is."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of latents, by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(deviation > 0 for deviation in self.std):
            raise UsageError(f"latents need one mean and one positive deviation per channel, not {self}")

    @classmethod
    def identity(cls, channels: int) -> "Statistics":
        """Return those that change nothing."""
        return cls((0.0,) * channels, (1.0,) * channels)

    def normalize(self, z_CTHW: Tensor) -> Tensor:
        """Return (z - mean) / std."""
        return (z_CTHW - _column(self.mean, z_CTHW)) / _column(self.std, z_CTHW)

    def scale(self, deviation_CTHW: Tensor) -> Tensor:
        """Return a deviation in units of `normalize`'s."""
        return deviation_CTHW / _column(self.std, deviation_CTHW)

    def restore(self, x_CTHW: Tensor) -> Tensor:
        """Return x * std + mean: the inverse of `normalize`."""
        return x_CTHW * _column(self.std, x_CTHW) + _column(self.mean, x_CTHW)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values).view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Moments:
    """The posterior of a clip's latent: a normal distribution at each position."""

    mean_CTHW: Tensor
    logvar_CTHW: Tensor | None
    """None for a codec that is deterministic."""


class Codec(Protocol):
    """An image-video autoencoder of stride 4 x 8 x 8."""

    channels: int
    period: int
    """It takes clips of k * period + 1 frames."""
    statistics: Statistics | None
    """Its authors' own; None: those of the encoded set are used."""

    def moments(self, video_3THW: Tensor) -> Moments: ...
    def decode(self, z_CTHW: Tensor) -> Tensor: ...
    def check_frames(self, frames: int) -> None: ...
    def to(self, device: Any) -> Self: ...


def check_frames(frames: int, period: int) -> None:
    """Refuse a number of frames of which a codec would lose some.

    Raises:
        UsageError: it is not k * period + 1; the message names the nearest ones that are.
    """
    if frames < 1 or (frames - 1) % period:
        below = max(frames - 1, 0) // period * period + 1
        near = f"{below} or {below + period}" if frames > 1 else str(below)
        raise UsageError(f"this VAE takes {period}k+1 frames, not {frames}; give {near}")


def load_codec(folder: Path, tile: int = 0) -> Codec:
    """Load a codec from its folder, onto the CPU.

    Args:
        tile: side in pixels of the overlapping squares that it works in, to save memory; 0 works on whole frames.

    Raises:
        UsageError: the folder holds no codec of a known kind, or only pickled weights, or `tile` is impossible.
        GokuError: weights are damaged, missing, or not those of the folder's config.json.
    """
    config = _config(folder)
    kind = str(config.get("codec") or config["_class_name"])
    return load(kind, KINDS, "VAE").load(folder, tile)  # type: ignore[attr-defined, no-any-return]


def codec_fingerprint(folder: Path) -> str:
    """Return 16 hexadecimal digits that name a codec: its weights and all that its config.json says of it."""
    config = {name: value for name, value in _config(folder).items() if name not in PROVENANCE}
    files = [folder / OWN_WEIGHTS] if "codec" in config else weight_files(folder)
    text = json.dumps([config, [sha256(path) for path in files]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def latent_statistics(data: Mapping[str, Any], codec: Codec) -> Statistics:
    """Return what a model's latents are normalized by: its data's statistics, else the codec's own, else nothing."""
    if found := data.get("statistics"):
        return Statistics(tuple(found["mean"]), tuple(found["std"]))
    return codec.statistics or Statistics.identity(codec.channels)


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} holds no VAE (no config.json); train one with: goku train recipes/vae.toml")
    config = read_json(folder / "config.json")
    if "codec" not in config and "_class_name" not in config:
        raise UsageError(f"{folder} holds no VAE (its config.json has neither codec nor _class_name); train one with: "
                         "goku train recipes/vae.toml")  # fmt: skip
    return config
