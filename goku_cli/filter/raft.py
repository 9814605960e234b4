"""Movement by RAFT (Teed and Deng 2020), the paper's choice, in the unit of `motion.py`."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from goku_cli.filter.sampled import SampledClip
from goku_cli.media.motion.motion import QUARTER_SECOND
from goku_cli.vision.device import device
from goku_cli.weights import RAFT

UPDATES = 12
PAIRS = 8
"""Pairs of frames that go through the network together."""


def load() -> Callable[[Sequence[SampledClip]], list[float]]:
    """Return the scorer: mean length of the flow over a quarter of a second, pixels at a short side of 480.

    Raises:
        GokuError: the weights are not there.
    """
    from torchvision.models.optical_flow import raft_large

    model = raft_large(weights=None)
    model.load_state_dict(torch.load(RAFT.path(), weights_only=True, map_location="cpu"))
    model.to(device()).eval()

    @torch.inference_mode()
    def score(clips: Sequence[SampledClip]) -> list[float]:
        return [_mean_flow(model, clip) for clip in clips]

    return score


def _mean_flow(model: torch.nn.Module, clip: SampledClip) -> float:
    frames = [_tensor(frame) for frame in clip.frames[::QUARTER_SECOND]]
    pairs = list(itertools.pairwise(frames))
    lengths = [float(length) for part in _parts(pairs) for length in _lengths(model, part)]
    return clip.to_reference * float(np.mean(lengths)) if lengths else 0.0


def _parts(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    for first in range(0, len(pairs), PAIRS):
        yield pairs[first : first + PAIRS]


def _lengths(model: torch.nn.Module, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Return the mean length of each pair's flow, in its own pixels."""
    before, after = (torch.stack(side).to(device()) for side in zip(*pairs, strict=True))
    flow = model(before, after, num_flow_updates=UPDATES)[-1]
    return flow.norm(dim=1).mean(dim=(1, 2)).cpu()


def _tensor(frame: np.ndarray) -> torch.Tensor:
    """Return a frame as (3, H, W) from -1 to 1, cropped to sides that are multiples of 8."""
    height, width = (side // 8 * 8 for side in frame.shape[:2])
    image = torch.from_numpy(np.ascontiguousarray(frame[:height, :width])).permute(2, 0, 1).float()
    return image / 127.5 - 1
