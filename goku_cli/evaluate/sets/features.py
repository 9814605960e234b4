"""Features of a clip without learned weights: how it looks, and how it moves.

Appearance is a random orthogonal 3D convolution net (as in Naeem et al. 2020, whose random embeddings compare data that
no published net was trained on). It is blind to movement: frozen and shuffled clips look like the real ones to it. So
movement has features of its own, histograms of the direction of optical flow and of its change (after Liu et al. 2024,
arXiv 2407.16124). Neither is of use without the other.

Shapes: T frames of SIDE x SIDE pixels.
"""

import functools
import itertools

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from goku_cli.media.motion.flow import optical_flow

SIDE = 64
"""Pixels: every clip is looked at in this size."""
FLOW_SIDE = 64
CHANNELS = (3, 32, 64, 64)
SEED = 0
CELLS, DIRECTIONS = 2, 8
DIMS = {"appearance": CHANNELS[-1], "motion": 2 * CELLS * CELLS * DIRECTIONS + 2}


def appearance(frames: np.ndarray) -> np.ndarray:
    """Return how a clip (T, H, W, 3) uint8 looks, (64,) float32."""
    small = np.stack([cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames])
    x_13TSS = torch.from_numpy(small).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        return np.asarray(_net()(x_13TSS).mean((2, 3, 4))[0].numpy())


def motion(frames: np.ndarray) -> np.ndarray:
    """Return how a clip of at least three frames (T, H, W, 3) uint8 moves, (66,) float32.

    For flow and for its change from pair to pair, its length summed by direction (8) and quarter of the picture (2 x 2)
    and averaged over pixels and pairs; then mean and deviation of what frames differ by, of 255.
    """
    grey = [cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (FLOW_SIDE, FLOW_SIDE), interpolation=cv2.INTER_AREA)
            for frame in map(np.ascontiguousarray, frames)]  # fmt: skip
    flows = [optical_flow(*pair) for pair in itertools.pairwise(grey)]
    changes = [after - before for before, after in itertools.pairwise(flows)]
    steps = [np.abs(b.astype(np.float32) - a).mean() for a, b in itertools.pairwise(grey)]
    moved = [np.mean([_directions(flow) for flow in found], axis=0) for found in (flows, changes)]
    return np.concatenate([*moved, [np.mean(steps), np.std(steps)]]).astype(np.float32)


def _directions(flow_HW2: np.ndarray) -> np.ndarray:
    """Return the length of the flow by quarter and direction, per pixel of a quarter."""
    x, y = flow_HW2[..., 0], flow_HW2[..., 1]
    direction = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * DIRECTIONS).astype(int).clip(0, DIRECTIONS - 1)
    rows, columns = (np.arange(n) * CELLS // n for n in direction.shape)
    place = (rows[:, None] * CELLS + columns) * DIRECTIONS + direction
    sums = np.bincount(place.ravel(), np.hypot(x, y).ravel(), CELLS * CELLS * DIRECTIONS)
    return sums / (direction.size / CELLS**2)


@functools.cache
def _net() -> nn.Module:
    """Return the net: three convolutions of stride 2 in space, the same on every machine."""
    rng = np.random.default_rng(SEED)
    layers: list[nn.Module] = []
    for inside, outside in itertools.pairwise(CHANNELS):
        layer = nn.Conv3d(inside, outside, 3, stride=(1, 2, 2), padding=1, bias=False)
        layer.weight.data = _orthogonal(rng, layer.weight)
        layers += [layer, nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers).eval()


def _orthogonal(rng: np.random.Generator, like: Tensor) -> Tensor:
    """Return filters that are orthogonal to each other, of the length that keeps the scale of what passes."""
    rows, columns = len(like), like[0].numel()
    q, _ = np.linalg.qr(rng.standard_normal((columns, rows)))
    return torch.from_numpy(q.T.reshape(like.shape)).float() * 2**0.5
