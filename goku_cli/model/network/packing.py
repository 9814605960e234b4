"""Patch n' Pack (Dehghani et al. 2023, NaViT): images and videos of any size in one token matrix.

A latent (C, T, H, W) is cut into patches of 1x2x2 and becomes T*(H/2)*(W/2) tokens of width 4C. Samples lie
one after the other in one (N, 4C) matrix; `cu_seqlens` says where each begins. There is no padding, and each
sample keeps its own timestep, caption and position origin.

Shapes: B samples, N vision tokens, M text tokens of width E.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from goku_cli.model.network.ulysses import Split

PATCH = 2
FEW_RUNS = 8
"""Runs of equally long samples up to which broadcasting beats lookup."""

Shape = tuple[int, int, int, int]
"""Of a latent: (C, T, H, W)."""


def patchify(latents: Sequence[Tensor]) -> Tensor:
    """Return the tokens (N, 4C) of latents (C, T, H, W), one after the other, each in order of time, row, column.

    Neighbors of one shape are cut together: one by one, small latents cost more than the network that reads them.

    Raises:
        ValueError: H or W is odd.
    """
    runs = [torch.stack(list(run)) for _, run in itertools.groupby(latents, key=shape_of)]
    return torch.cat([_patches(run) for run in runs])


def _patches(latents_BCTHW: Tensor) -> Tensor:
    b, c, t, h, w = latents_BCTHW.shape
    if h % PATCH or w % PATCH:
        raise ValueError(f"latent height and width must be even (pixels divisible by 16), got {h}x{w}")
    patches = latents_BCTHW.view(b, c, t, h // PATCH, PATCH, w // PATCH, PATCH)
    return patches.permute(0, 2, 3, 5, 1, 4, 6).reshape(b * t * h * w // PATCH**2, c * PATCH**2)


def unpatchify(tokens: Tensor, shape: Shape) -> Tensor:
    """Return the latent (C, T, H, W) whose tokens (n, 4C) these are: the inverse of `patchify`."""
    c, t, h, w = shape
    patches = tokens.view(t, h // PATCH, w // PATCH, c, PATCH, PATCH)
    return patches.permute(3, 0, 1, 4, 2, 5).reshape(c, t, h, w)


@functools.lru_cache(1024)
def grid_positions(shape: Shape) -> Tensor:
    """Return the positions (n, 3) in (time, row, column) of a latent's tokens, each sample from its own zero.

    The same tensor each time: do not write into it.
    """
    _, t, h, w = shape
    axes = [torch.arange(size) for size in (t, h // PATCH, w // PATCH)]
    return torch.cartesian_prod(*axes).view(-1, 3)


def token_count(shape: Sequence[int]) -> int:
    """Return how many tokens a latent of this shape (C, T, H, W) has."""
    _, t, h, w = shape
    return t * (h // PATCH) * (w // PATCH)


@dataclass(frozen=True)
class Sequences:
    """Where each of B samples begins and ends in a matrix of N rows."""

    lengths: tuple[int, ...]
    """Rows of each sample; they sum to N."""
    cu_seqlens: Tensor
    """(B + 1,) int32: (0, n_1, n_1 + n_2, ...), as the variable-length kernels want it."""
    sample: Tensor
    """(N,) int64: which sample a row belongs to."""
    longest: int
    runs: tuple[tuple[int, int], ...]
    """(samples, rows of each) for neighbors of equal length: ((80, 4), (32, 12)) of 80 images and 32 clips."""

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "Sequences":
        """Lay out samples of these lengths, one after the other."""
        counts = torch.tensor(lengths, dtype=torch.int64)
        starts = F.pad(counts.cumsum(0), (1, 0)).int()
        sample = torch.arange(len(lengths)).repeat_interleave(counts)
        runs = tuple((len(list(run)), length) for length, run in itertools.groupby(lengths))
        return cls(tuple(lengths), starts, sample, max(lengths, default=0), runs)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Sequences":
        """Return the same with every tensor changed."""
        return replace(self, cu_seqlens=change(self.cu_seqlens), sample=change(self.sample))

    def to(self, device: torch.device) -> "Sequences":
        """Return the same on another device."""
        return self.map(lambda x: x.to(device))

    def spread(self, values_BD: Tensor) -> Tensor:
        """Repeat one row per sample (B, D) to one per token: (N, D), or (1, D) where there is but one sample.

        On a CPU where few lengths occur, by broadcasting, whose gradient is a plain sum. Else by lookup: the gradient
        of an embedding sums long runs of equal rows well, and what is compiled does not depend on the lengths.
        """
        if values_BD.shape[0] == 1:
            return values_BD
        if values_BD.device.type != "cpu" or len(self.runs) > FEW_RUNS:
            return F.embedding(self.sample, values_BD)
        parts = values_BD.split([count for count, _ in self.runs])
        repeated = [
            part[:, None].expand(-1, length, -1).flatten(0, 1)
            for part, (_, length) in zip(parts, self.runs, strict=True)
        ]
        return repeated[0] if len(repeated) == 1 else torch.cat(repeated)

    def pool(self, rows_ND: Tensor) -> Tensor:
        """Return the sum of every sample's rows over the root of their number: (B, D), of the variance of one row."""
        sums_BD = rows_ND.new_zeros(len(self.cu_seqlens) - 1, rows_ND.shape[1]).index_add_(0, self.sample, rows_ND)
        return sums_BD / self.cu_seqlens.diff().clamp(min=1).to(rows_ND.dtype).sqrt()[:, None]


@dataclass(frozen=True)
class Pack:
    """A batch: B samples in N vision tokens and M text tokens."""

    tokens: Tensor
    """(N, 4C)"""
    positions: Tensor
    """(N, 3) int, in (time, row, column)"""
    vision: Sequences
    """The samples in N."""
    text: Tensor
    """(M, E)"""
    words: Sequences
    """The samples in M."""
    shapes: tuple[Shape, ...]
    """Latent shape of each sample."""
    labels: Tensor | None = None
    """(B,) int64, of a class-conditional model."""
    first_frames: Tensor | None = None
    """(N, 4C): each token's patch of its sample's first frame, zero where none is given; image-to-video."""
    last_frames: Tensor | None = None
    """(N, 4C): the same of its sample's last latent frame."""
    text_keys: tuple[tuple[Tensor, Tensor], ...] | None = None
    """Every layer's keys and values of the text, when they were computed before (`Goku.text_keys`)."""
    split: "Split | None" = None
    """Set when this is one rank's stretch of a pack (`ulysses.py`); `shapes` are then those of the whole."""

    def map(self, change: Callable[[Tensor], Tensor]) -> "Pack":
        """Return the same pack with every tensor changed."""
        tensors: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        split = None if self.split is None else self.split.map(change)
        return replace(self, vision=self.vision.map(change), words=self.words.map(change), split=split, **tensors)

    def to(self, device: torch.device) -> "Pack":
        """Return the same pack on another device."""
        return self.map(lambda x: x.to(device))


def pack(
    latents: Sequence[Tensor],
    texts: Sequence[Tensor],
    *,
    labels: Sequence[int] | None = None,
    first_frames: Sequence[Tensor | None] | None = None,
    last_frames: Sequence[Tensor | None] | None = None,
    text_rows: int = 0,
) -> Pack:
    """Pack latents (C, T, H, W) of any sizes with the text states (m, E) of each.

    Args:
        latents: one per sample; the order is kept. Equal sizes next to each other are attended to in one call on a
            CPU.
        texts: one per sample, in any precision: states are stored in half of the latents'. For a class-conditional
            model they have no rows.
        labels: the class of each sample.
        first_frames: the latent (C, 1, H, W) that each sample should begin with, or None where it is free; it is
            broadcast over the sample's frames (paper section 3.4).
        last_frames: the same of the one that it should end with.
        text_rows: what is shorter is filled up with zero rows, as the model wants it (`ModelConfig.text_rows`).

    Raises:
        ValueError: a latent of odd height or width, or a given frame of another size than its sample.
    """
    shapes = tuple(shape_of(latent) for latent in latents)
    lengths = [max(text_rows, len(text)) for text in texts]
    return Pack(
        tokens=patchify(latents),
        positions=torch.cat([grid_positions(shape) for shape in shapes]),
        vision=Sequences.of([token_count(shape) for shape in shapes]),
        text=_filled(texts, lengths).to(latents[0].dtype),
        words=Sequences.of(lengths),
        shapes=shapes,
        labels=None if labels is None else torch.tensor(labels),
        first_frames=_given(latents, first_frames),
        last_frames=_given(latents, last_frames),
    )


def _filled(texts: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """Return texts (m, E), one after the other, each filled up with zero rows to its length."""
    if all(len(text) == length for text, length in zip(texts, lengths, strict=True)):
        return torch.cat(list(texts))
    rows_BLE = pad_sequence(list(texts), batch_first=True)
    rows_BLE = F.pad(rows_BLE, (0, 0, 0, max(lengths) - rows_BLE.shape[1]))
    if min(lengths) == max(lengths):  # one call, where filling up text by text is as many
        return rows_BLE.flatten(0, 1)
    return torch.cat([rows[:length] for rows, length in zip(rows_BLE, lengths, strict=True)])


def unpack(tokens: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
    """Return the latents (C, T, H, W) that lie in a token matrix (N, 4C), one after the other."""
    parts = tokens.split([token_count(shape) for shape in shapes])
    return [unpatchify(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def shape_of(latent: Tensor) -> Shape:
    """Return a latent's shape (C, T, H, W) as a tuple."""
    c, t, h, w = latent.shape
    return c, t, h, w


def _given(latents: Sequence[Tensor], frames: Sequence[Tensor | None] | None) -> Tensor | None:
    if frames is None:
        return None
    return patchify([_broadcast(*pair) for pair in zip(latents, frames, strict=True)])


def _broadcast(latent: Tensor, frame: Tensor | None) -> Tensor:
    if frame is None:
        return torch.zeros_like(latent)
    if frame.shape != latent[:, :1].shape:
        raise ValueError(f"a given frame must be {list(latent[:, :1].shape)}, not {list(frame.shape)}")
    return frame.expand_as(latent)
