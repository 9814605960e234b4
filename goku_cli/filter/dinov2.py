"""How much a clip changes, by DINOv2 (Oquab et al. 2023) as in the paper: one frame per second, neighbors compared."""

from collections.abc import Callable, Sequence

import torch

from goku_cli.filter.sampled import SampledClip
from goku_cli.vision.device import by_clip, device, in_batches, square
from goku_cli.weights import DINOV2

SIDE = 224


def load() -> Callable[[Sequence[SampledClip]], list[float]]:
    """Return the scorer: least cosine similarity of the class tokens of neighbors a second apart.

    Raises:
        GokuError: the weights are not there.
    """
    from transformers import AutoImageProcessor, AutoModel

    path = DINOV2.path()
    model = AutoModel.from_pretrained(path, use_safetensors=True).to(device()).eval()
    processor = AutoImageProcessor.from_pretrained(path)

    def tokens(pixels: torch.Tensor) -> torch.Tensor:
        states = model(pixel_values=pixels).last_hidden_state[:, 0]
        return torch.nn.functional.normalize(states, dim=1)

    def score(clips: Sequence[SampledClip]) -> list[float]:
        frames = [
            square(frame, SIDE, processor.image_mean, processor.image_std) for clip in clips for frame in clip.seconds
        ]
        features = by_clip(in_batches(tokens, frames), [len(clip.seconds) for clip in clips])
        return [_least_similarity(rows) for rows in features]

    return score


def _least_similarity(rows: torch.Tensor) -> float:
    """Of unit vectors (N, D) in order; 1 for a single one."""
    return float((rows[1:] * rows[:-1]).sum(1).min()) if len(rows) > 1 else 1.0
