"""Sizes of the Goku transformer: Table 1 of the paper, and a tiny one for CPUs.

No number of a model has a default: a forgotten one is an error, not a guess.
"""

from dataclasses import dataclass

from goku_cli.errors import UsageError
from goku_cli.registry import nearest


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the parameters' names and shapes."""

    layers: int
    dim: int
    ffn_dim: int
    heads: int
    rope_split: tuple[int, int, int]
    """Head dimensions for (time, height, width); they sum to dim / heads and are even."""
    rope_theta: float
    latent_channels: int
    text_dim: int

    def __post_init__(self) -> None:
        if self.dim % self.heads or sum(self.rope_split) != self.dim // self.heads:
            raise UsageError(f"rope_split {self.rope_split} must sum to dim / heads = {self.dim / self.heads:g}")
        if any(part % 2 for part in self.rope_split):
            raise UsageError(f"every part of rope_split {self.rope_split} must be even")


@dataclass(frozen=True)
class Size:
    """One row of the table of sizes."""

    layers: int
    dim: int
    ffn_dim: int
    heads: int
    rope_split: tuple[int, int, int]


SIZES = {
    "nano": Size(layers=2, dim=48, ffn_dim=192, heads=2, rope_split=(8, 8, 8)),
    "tiny": Size(layers=6, dim=144, ffn_dim=576, heads=3, rope_split=(16, 16, 16)),
    "1b": Size(layers=28, dim=1152, ffn_dim=4608, heads=16, rope_split=(24, 24, 24)),
    "2b": Size(layers=28, dim=1792, ffn_dim=7168, heads=28, rope_split=(16, 24, 24)),
    "8b": Size(layers=40, dim=3072, ffn_dim=12288, heads=48, rope_split=(16, 24, 24)),
}


def model_config(size: str, *, latent_channels: int, text_dim: int) -> ModelConfig:
    """Return the configuration of a named size for a codec's channels and a text encoder's width.

    Raises:
        UsageError: no such size.
    """
    if size not in SIZES:
        raise UsageError(f'unknown model size "{size}"{nearest(size, SIZES)}; known: {", ".join(SIZES)}')
    row = SIZES[size]
    return ModelConfig(
        layers=row.layers, dim=row.dim, ffn_dim=row.ffn_dim, heads=row.heads, rope_split=row.rope_split,
        rope_theta=10_000.0, latent_channels=latent_channels, text_dim=text_dim,
    )  # fmt: skip
