"""Patch n' Pack (Dehghani et al. 2023, NaViT): images and videos of any size in one token matrix.

A latent (C, T, H, W) is cut into patches of 1x2x2 and becomes T*(H/2)*(W/2) tokens of width 4C. Samples lie
one after the other in one (N, 4C) matrix; `cu_seqlens` says where each begins. There is no padding, and each
sample keeps its own timestep, caption and position origin.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PATCH = 2


def patchify(latent_CTHW: Tensor) -> Tensor:
    """Return the tokens (n, 4C) of a latent (C, T, H, W), in order of time, row, column.

    Raises:
        ValueError: H or W is odd.
    """
    c, t, h, w = latent_CTHW.shape
    if h % PATCH or w % PATCH:
        raise ValueError(f"latent height and width must be even, got {h}x{w}")
    patches = latent_CTHW.view(c, t, h // PATCH, PATCH, w // PATCH, PATCH)
    return patches.permute(1, 2, 4, 0, 3, 5).reshape(t * h * w // PATCH**2, c * PATCH**2)


def unpatchify(tokens: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Return the latent (C, T, H, W) whose tokens (n, 4C) these are: the inverse of `patchify`."""
    c, t, h, w = shape
    patches = tokens.view(t, h // PATCH, w // PATCH, c, PATCH, PATCH)
    return patches.permute(3, 0, 1, 4, 2, 5).reshape(c, t, h, w)


def grid_positions(shape: tuple[int, int, int, int]) -> Tensor:
    """Return the positions (n, 3) in (time, row, column) of a latent's tokens, each sample from its own zero."""
    _, t, h, w = shape
    axes = [torch.arange(size) for size in (t, h // PATCH, w // PATCH)]
    return torch.cartesian_prod(*axes).view(-1, 3)


def token_count(shape: Sequence[int]) -> int:
    """Return how many tokens a latent of this shape (C, T, H, W) has."""
    _, t, h, w = shape
    return t * (h // PATCH) * (w // PATCH)


def cumulative(lengths: Sequence[int]) -> Tensor:
    """Return (0, n_1, n_1 + n_2, ...), int32: where each packed sequence begins, and the end of the last."""
    return torch.nn.functional.pad(torch.tensor(lengths, dtype=torch.int32).cumsum(0, dtype=torch.int32), (1, 0))


@dataclass(frozen=True)
class Pack:
    """A batch: B samples in N vision tokens and M text tokens."""

    tokens: Tensor
    """(N, 4C)"""
    positions: Tensor
    """(N, 3) int, in (time, row, column)"""
    lengths: tuple[int, ...]
    """Vision tokens of each sample; they sum to N."""
    text: Tensor
    """(M, text width)"""
    text_lengths: tuple[int, ...]
    """Text tokens of each sample; they sum to M."""
    shapes: tuple[tuple[int, int, int, int], ...]
    """Latent shape of each sample."""

    def per_token(self, values_B: Tensor) -> Tensor:
        """Repeat one row per sample (B, ...) to one row per vision token (N, ...)."""
        return values_B.repeat_interleave(torch.tensor(self.lengths, device=values_B.device), dim=0)

    def to(self, device: torch.device) -> "Pack":
        """Return the same pack on another device."""
        return Pack(
            self.tokens.to(device), self.positions.to(device), self.lengths,
            self.text.to(device), self.text_lengths, self.shapes,
        )  # fmt: skip


def pack(latents: Sequence[Tensor], texts: Sequence[Tensor]) -> Pack:
    """Pack latents (C, T, H, W) of any sizes with the text states (m, text width) of each.

    Samples keep their order. Equal sizes next to each other are attended to in one call on a CPU.
    """
    shapes = tuple((*latent.shape,) for latent in latents)
    return Pack(
        tokens=torch.cat([patchify(latent) for latent in latents]),
        positions=torch.cat([grid_positions(shape) for shape in shapes]),
        lengths=tuple(token_count(shape) for shape in shapes),
        text=torch.cat(list(texts)),
        text_lengths=tuple(len(text) for text in texts),
        shapes=shapes,
    )


def unpack(tokens: Tensor, shapes: Iterable[tuple[int, int, int, int]]) -> list[Tensor]:
    """Return the latents (C, T, H, W) that lie in a token matrix (N, 4C), one after the other."""
    shapes = list(shapes)
    parts = tokens.split([token_count(shape) for shape in shapes])
    return [unpatchify(part, shape) for part, shape in zip(parts, shapes, strict=True)]
