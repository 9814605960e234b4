"""The embedded codec: a causal linear image-video autoencoder, fitted in seconds.

Three-dimensional PCA. The first frame is cut into 8x8 patches, every later group of 4 frames into 8x8x4 blocks;
each kind has its own mean and its own leading components. So strides are 8x8x4, an image is a video of one frame,
videos have 4k+1 frames, and no frame depends on a later group: the contract of the paper's VAE, with the exact
best reconstruction that a linear map of this width can give. Each kind has one scale, so that images and videos have
the same mean variance and see the same noise, and the spectrum of its components stays (whitening them is what small
flow models cannot learn).

Shapes: C channels, T frames, t = 1 + (T - 1) / 4 latent frames, H x W pixels.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from goku_cli.errors import GokuError
from goku_cli.model.vae.codec import OWN_WEIGHTS, Moments, Statistics, check_frames

SPACE, TIME = 8, 4
KINDS = {"first": 1, "later": TIME}
PARTS = ("mean", "components", "scale")
EMPTY = 1e-12
"""A variance that is rounding error."""


def blocks(video_3THW: Tensor, frames: int) -> Tensor:
    """Return (t, H/8, W/8, 3 * frames * 64): the blocks of `frames` x 8 x 8 pixels."""
    c, t, h, w = video_3THW.shape
    cut = video_3THW.reshape(c, t // frames, frames, h // SPACE, SPACE, w // SPACE, SPACE)
    return cut.permute(1, 3, 5, 0, 2, 4, 6).flatten(3)


def unblocks(x: Tensor, frames: int) -> Tensor:
    """Return the video (3, T, H, W) of its blocks: the inverse of `blocks`."""
    t, h, w, _ = x.shape
    cut = x.view(t, h, w, 3, frames, SPACE, SPACE).permute(3, 0, 4, 1, 5, 2, 6)
    return cut.reshape(3, t * frames, h * SPACE, w * SPACE)


class LinearCodec:
    """Encode (3, T, H, W) in [-1, 1] to (C, t, H/8, W/8), and back.

    `tensors` holds for each kind of block its mean (P,), its components (C, P) and its scale.
    """

    period = TIME

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.channels = len(tensors["first.components"])
        self.statistics = Statistics.identity(self.channels)

    @classmethod
    def fit(cls, videos: Iterable[Tensor], channels: int) -> "LinearCodec":
        """Find the leading components of clips (3, T, H, W) in [-1, 1].

        Raises:
            GokuError: there are no clips.
        """
        sums = {kind: torch.zeros(3 * f * SPACE**2, dtype=torch.float64) for kind, f in KINDS.items()}
        products = {kind: torch.outer(s, s) for kind, s in sums.items()}
        counts = dict.fromkeys(KINDS, 0)
        for video in videos:
            for kind, part in (("first", video[:, :1]), ("later", video[:, 1:])):
                if part.shape[1]:
                    x = blocks(part, KINDS[kind]).flatten(0, 2).double()
                    sums[kind] += x.sum(0)
                    products[kind] += x.T @ x
                    counts[kind] += len(x)
        if not counts["first"]:
            raise GokuError("no clips to fit the linear codec on")
        tensors: dict[str, Tensor] = {}
        for kind in KINDS:
            count = max(counts[kind], 1)
            mean = sums[kind] / count
            values, vectors = torch.linalg.eigh(products[kind] / count - torch.outer(mean, mean))
            top = values.flip(0)[:channels].clamp_min(0)
            tensors[f"{kind}.mean"] = mean.float()
            tensors[f"{kind}.components"] = vectors.flip(1)[:, :channels].T.float().contiguous()
            variance = top.mean()
            # Without blocks of a kind, or with constant ones, there is nothing to scale.
            tensors[f"{kind}.scale"] = (variance.rsqrt() if variance > EMPTY else torch.ones(())).float()
        return cls(tensors)

    @classmethod
    def load(cls, folder: Path, tile: int = 0) -> "LinearCodec":
        """Load what `save` wrote; `tile` changes nothing, since every block stands alone.

        Raises:
            GokuError: the file is missing, damaged or an older goku's.
        """
        path = folder / OWN_WEIGHTS
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise GokuError(f"{path} is missing or damaged ({error}); remove {folder} and encode again") from error
        if missing := [f"{kind}.{part}" for kind in KINDS for part in PARTS if f"{kind}.{part}" not in tensors]:
            raise GokuError(f"{path} lacks {missing[0]}; remove {folder} and encode again")
        return cls(tensors)

    def save(self, folder: Path) -> None:
        """Write the tensors and a readable configuration into an existing folder."""
        save_file(self.tensors, folder / OWN_WEIGHTS)
        config = {"codec": "linear", "channels": self.channels, "stride": [TIME, SPACE, SPACE]}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")

    def to(self, device: Any) -> Self:
        """Move to a device."""
        self.tensors = {name: x.to(device) for name, x in self.tensors.items()}
        return self

    def check_frames(self, frames: int) -> None:
        """Refuse any number of frames but 4k + 1 (UsageError)."""
        check_frames(frames, self.period)

    def moments(self, video_3THW: Tensor) -> Moments:
        """Return the latent (C, t, H/8, W/8) of a clip (3, T, H, W) in [-1, 1], without a variance.

        Raises:
            UsageError: T is not 4k + 1.
        """
        self.check_frames(video_3THW.shape[1])
        parts = [("first", video_3THW[:, :1]), ("later", video_3THW[:, 1:])]
        latents = [self._project(kind, part) for kind, part in parts if part.shape[1]]
        return Moments(torch.cat(latents).permute(3, 0, 1, 2).contiguous(), None)

    def decode(self, z_CTHW: Tensor) -> Tensor:
        """Return the clip (3, T, H, W) in about [-1, 1] of a latent."""
        x = z_CTHW.permute(1, 2, 3, 0)
        parts = [("first", x[:1]), ("later", x[1:])]
        return torch.cat([self._restore(kind, part) for kind, part in parts if len(part)], dim=1)

    def _project(self, kind: str, part: Tensor) -> Tensor:
        mean, components, scale = (self.tensors[f"{kind}.{name}"] for name in PARTS)
        return (blocks(part, KINDS[kind]) - mean) @ components.T * scale

    def _restore(self, kind: str, x: Tensor) -> Tensor:
        mean, components, scale = (self.tensors[f"{kind}.{name}"] for name in PARTS)
        return unblocks(x / scale @ components + mean, KINDS[kind])


def to_unit(frames_THW3: np.ndarray) -> Tensor:
    """Turn uint8 RGB frames (T, H, W, 3) into a clip (3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames_THW3)).permute(3, 0, 1, 2).float() / 127.5 - 1


def to_frames(video_3THW: Tensor) -> np.ndarray:
    """Turn a clip (3, T, H, W) in [-1, 1] into uint8 RGB frames (T, H, W, 3)."""
    scaled = ((video_3THW.clamp(-1, 1) + 1) * 127.5).round().byte()
    return scaled.permute(1, 2, 3, 0).contiguous().numpy()
