"""DINOv2 (Oquab et al. 2023): what a picture shows as a vector, as in the paper."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goku_cli.vision.device import device, in_batches, square
from goku_cli.weights import DINOV2

SIDE = 224


def tokens(frames: Sequence[np.ndarray]) -> Tensor:
    """Return the class tokens (N, D), of length 1, of N frames, uint8 RGB.

    Raises:
        GokuError: the weights are not there.
    """
    model, processor = _parts()
    pixels = [square(frame, SIDE, processor.image_mean, processor.image_std) for frame in frames]

    def encode(batch: Tensor) -> Tensor:
        return torch.nn.functional.normalize(model(pixel_values=batch).last_hidden_state[:, 0], dim=1)

    return in_batches(encode, pixels)


def token(frame: np.ndarray) -> np.ndarray:
    """Return the class token (D,) of one frame."""
    return tokens([frame])[0].numpy()


@cache
def _parts() -> tuple[torch.nn.Module, Any]:
    from transformers import AutoImageProcessor, AutoModel

    path = DINOV2.path()
    model = AutoModel.from_pretrained(path, use_safetensors=True).to(device()).eval()
    return model, AutoImageProcessor.from_pretrained(path)
