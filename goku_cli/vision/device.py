"""Running a model over the frames of many clips: on the GPU when there is one, a few frames at a time."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

BATCH = 64


def device() -> torch.device:
    """Return the first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def in_batches(model: Callable[[Tensor], Tensor], frames: Sequence[Tensor], batch: int = BATCH) -> Tensor:
    """Return the model's rows (N, ...) for N inputs of one shape, float32 on the CPU."""
    with torch.inference_mode():
        rows = [model(torch.stack(list(frames[i : i + batch])).to(device())) for i in range(0, len(frames), batch)]
    return torch.cat(rows).float().cpu()


def by_clip(rows: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """Split rows of all clips' frames into one tensor per clip."""
    return list(torch.split(rows, list(lengths)))


def square(frame: np.ndarray, side: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return the middle square of a uint8 RGB frame (H, W, 3) as a normalized (3, side, side) float tensor."""
    height, width, _ = frame.shape
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    image = torch.from_numpy(np.ascontiguousarray(frame[top : top + short, left : left + short])).permute(2, 0, 1)
    scaled = torch.nn.functional.interpolate(
        image[None].float() / 255, size=(side, side), mode="bicubic", antialias=True, align_corners=False
    )[0].clamp(0, 1)
    return (scaled - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
