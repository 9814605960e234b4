"""CLIP (Radford et al. 2021): pictures and sentences as vectors of one space. The only import of open_clip."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import open_clip
import torch
from torch import Tensor

from goku_cli.publish import sha256
from goku_cli.vision.device import device, in_batches, square
from goku_cli.weights import CLIP


class Encoder:
    """CLIP's two encoders, which return unit vectors."""

    implementation = "goku on CLIP of open_clip"
    license = "MIT"

    def __init__(self) -> None:
        path = CLIP.path()
        self.model = open_clip.create_model(f"local-dir:{path}", precision="fp32").to(device()).eval()
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{path}")

    def images(self, frames: Sequence[np.ndarray]) -> Tensor:
        """Return the features (N, D) of N frames, uint8 RGB."""
        config = open_clip.get_model_preprocess_cfg(self.model)
        side = config["size"] if isinstance(config["size"], int) else config["size"][0]
        pixels = [square(frame, side, config["mean"], config["std"]) for frame in frames]
        return in_batches(lambda batch: self.model.encode_image(batch, normalize=True), pixels)

    @torch.inference_mode()
    def texts(self, lines: Sequence[str]) -> Tensor:
        """Return the features (N, D) of N lines."""
        return self.model.encode_text(self.tokenizer(list(lines)).to(device()), normalize=True).float().cpu()

    @property
    def sha256(self) -> str:
        """Return the digest of its weights."""
        return sha256(CLIP.path() / "open_clip_model.safetensors")

    @property
    def scale(self) -> float:
        """What CLIP multiplies cosines by before a softmax."""
        return float(self.model.logit_scale.exp())


@cache
def encoder() -> Encoder:
    """Return the one encoder of this process.

    Raises:
        GokuError: the weights are not there.
    """
    return Encoder()
