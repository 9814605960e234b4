"""Sizes of the Goku transformer: Table 1 of the paper, and small ones for CPUs.

No number of a model has a default: a forgotten one is an error, not a guess. What has a default are the choices in
which published models differ from the paper's block.
"""

from dataclasses import asdict, dataclass
from typing import Any

from goku_cli.errors import UsageError
from goku_cli.registry import nearest


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the network: its parameters' names and shapes, and what it does with them."""

    layers: int
    """Transformer blocks."""
    dim: int
    """Width of a token."""
    ffn_dim: int
    """Width of the feed-forward layers."""
    heads: int
    """Attention heads."""
    rope_split: tuple[int, int, int]
    """Head dimensions for (time, height, width); they sum to dim / heads and are even."""
    rope_theta: float
    """Base of the RoPE frequencies; 10,000 for all sizes."""
    latent_channels: int
    """Channels of the VAE's latents; taken from the data."""
    text_dim: int
    """Width of the text states; 0 for a model without cross-attention."""
    rope_scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Positions are multiplied by this: 288 / 480 lets a model that learned 288 lines begin at 480 (interpolation)."""
    text_rows: int = 0
    """Rows to which every text is filled up with zeros: Wan attends to 512; 0 fills nothing."""
    classes: int = 0
    """Labels of a class-conditional model; the one after the last means "any"."""
    image_condition: bool = False
    """Image-to-video: the first frame's latent rides on the channels of every frame (paper section 3.4)."""
    last_frame: bool = False
    """The last latent frame rides there as well, where it is given; needs image_condition."""
    biases: bool = False
    """Biases in the projections of attention (Wan)."""
    layer_norms: bool = False
    """LayerNorm before cross-attention and feed-forward, affine in the former, instead of RMSNorm (Wan)."""
    shared_modulation: bool = False
    """One projection of the timestep for all layers, to which each adds its own table, instead of one each (Wan)."""
    text_mlp: bool = False
    """Two layers bring the text states to the model's width before any block (Wan)."""
    absolute_positions: bool = False
    """Tokens are told their place as well, by the same sinusoids that RoPE turns by: in a frame of few tokens, all of
    which meet its borders, relative positions alone leave a small model to find out where it is."""
    pooled_text: bool = False
    """Blocks are modulated by the text as a whole too, the sum of its states, as in Stable Diffusion 3 and FLUX."""
    noise_time: bool = False
    """The weights were learned with time run backwards: from u = 1 - t they predict x_0 - x_1 (Wan)."""

    def __post_init__(self) -> None:
        if min(self.layers, self.dim, self.ffn_dim, self.heads, self.latent_channels) < 1:
            raise UsageError("layers, dim, ffn_dim, heads and latent_channels must be at least 1")
        if self.dim % self.heads:
            raise UsageError(f"{self.heads} heads do not divide the width {self.dim}; take a divisor of it")
        if len(self.rope_split) != 3 or sum(self.rope_split) != self.dim // self.heads:
            raise UsageError(f"rope_split {list(self.rope_split)} must be three numbers that sum to the head's width, "
                             f"dim / heads = {self.dim // self.heads}")  # fmt: skip
        if any(part % 2 or part < 0 for part in self.rope_split):
            raise UsageError(f"every part of rope_split {list(self.rope_split)} must be even: it rotates pairs")
        if self.rope_theta <= 0 or len(self.rope_scale) != 3 or min(self.rope_scale) <= 0:
            raise UsageError("rope_theta and the three numbers of rope_scale must be positive")
        if self.last_frame and not self.image_condition:
            raise UsageError("last_frame needs image_condition: a clip is led from its first frame to its last")
        if self.text_rows < 0:
            raise UsageError("text_rows must be 0 (texts as they are) or more")
        if self.pooled_text and not self.text_dim:
            raise UsageError("pooled_text needs text_dim of at least 1, a model that reads texts")
        if self.classes < 0 or (not self.classes and self.text_dim < 1):
            raise UsageError("a model needs text_dim (text states) or classes (labels) of at least 1")


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
    "mini": Size(layers=4, dim=96, ffn_dim=384, heads=3, rope_split=(12, 10, 10)),
    "tiny": Size(layers=6, dim=144, ffn_dim=576, heads=3, rope_split=(16, 16, 16)),
    "1b": Size(layers=28, dim=1152, ffn_dim=4608, heads=16, rope_split=(24, 24, 24)),
    "2b": Size(layers=28, dim=1792, ffn_dim=7168, heads=28, rope_split=(16, 24, 24)),
    "8b": Size(layers=40, dim=3072, ffn_dim=12288, heads=48, rope_split=(16, 24, 24)),
}
ROPE_THETA = 10_000.0
POLICIES = ("none", "attention", "full")


@dataclass(frozen=True)
class Recompute:
    """What a block forgets and computes again for its gradient (model/network/activation_checkpointing.py)."""

    policy: str = "none"
    """none, attention (all but attention's outputs), or full"""
    layers: int = 0
    """The first so many layers; 0 means all."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise UsageError(f'unknown policy "{self.policy}" of recompute{nearest(self.policy, list(POLICIES))}; '
                             f"known: {', '.join(POLICIES)}")  # fmt: skip
        if self.layers < 0:
            raise UsageError("the layers that are recomputed must be 0 (all) or more")

    def covers(self, layer: int) -> bool:
        """Return whether a layer computes again."""
        return self.policy != "none" and (not self.layers or layer < self.layers)


def model_values(size: str, *, latent_channels: int, text_dim: int, **changes: Any) -> dict[str, Any]:
    """Return the fields of ModelConfig for a named size, a codec's channels and a text encoder's width.

    `changes` are fields that differ from the table, as a recipe's `[model]` names them; they are not checked here.

    Raises:
        UsageError: no such size.
    """
    if size not in SIZES:
        raise UsageError(f'unknown model size "{size}"{nearest(size, SIZES)}; known: {", ".join(SIZES)}')
    given = {"rope_theta": ROPE_THETA, "latent_channels": latent_channels, "text_dim": text_dim}
    return {**asdict(SIZES[size]), **given, **changes}


def model_config(size: str, *, latent_channels: int, text_dim: int, **changes: Any) -> ModelConfig:
    """Return the configuration of a named size; the arguments are those of `model_values`.

    Raises:
        UsageError: no such size, or numbers that do not go together.
    """
    return ModelConfig(**model_values(size, latent_channels=latent_channels, text_dim=text_dim, **changes))
