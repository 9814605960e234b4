"""What a VAE is to the rest of goku: clips (3, T, H, W) in [-1, 1] to latents (C, t, H/8, W/8), and back.

T = 4k + 1 frames become t = k + 1 latent frames; an image is one frame. A codec is a folder with a `config.json`
whose `codec` key names its kind. Latents that leave `encode` are scaled for the flow model.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from goku_cli.errors import UsageError
from goku_cli.publish import sha256
from goku_cli.registry import load

KINDS: Mapping[str, str] = {
    "linear": "goku_cli.model.linear_codec:LinearCodec",
    "wan": "goku_cli.model.wan_codec:WanCodec",
}


class Codec(Protocol):
    """An image-video autoencoder of stride 4 x 8 x 8."""

    channels: int

    def encode(self, video_3THW: Tensor) -> Tensor: ...
    def decode(self, latent_CTHW: Tensor) -> Tensor: ...


def load_codec(folder: Path) -> Codec:
    """Load a codec from its folder.

    Raises:
        UsageError: the folder holds no codec of a known kind.
    """
    try:
        kind = json.loads((folder / "config.json").read_text())["codec"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder} holds no VAE (a config.json with a codec key); train one with: "
                         "goku train recipes/vae.toml") from error  # fmt: skip
    return load(kind, KINDS, "codec").load(folder)  # type: ignore[attr-defined, no-any-return]


def codec_fingerprint(folder: Path) -> str:
    """Return 16 hexadecimal digits that name a codec's weights."""
    return sha256(folder / "codec.safetensors")[:16]
