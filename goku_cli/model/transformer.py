"""The Goku transformer (paper section 3.2): full attention over packed image and video tokens.

Each block is self-attention with 3D RoPE, cross-attention to the caption, and a feed-forward network; the
timestep scales, shifts and gates the first and the last through adaLN-Zero, so that at the start the network
outputs zero. Queries and keys pass RMSNorm over the full width before the split into heads.

Shapes: B samples, N vision tokens, M text tokens of width E, D width, H heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goku_cli.model.attention import Lengths, packed_attention
from goku_cli.model.packing import PATCH, Pack
from goku_cli.model.presets import ModelConfig
from goku_cli.model.rope import rope_table, rotate

TIME_WIDTH = 256
EPS = 1e-6

Rope = tuple[Tensor, Tensor]


def timestep_features(t_B: Tensor, width: int = TIME_WIDTH) -> Tensor:
    """Return sinusoids (B, width) of times in [0, 1], scaled to the 1,000 steps of the convention."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half, device=t_B.device) / half)
    angle = 1_000 * t_B.float()[:, None] * frequency
    return torch.cat((angle.cos(), angle.sin()), dim=1)


def modulate(x_ND: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Apply adaLN's shift and scale, one row per token."""
    return x_ND * (1 + scale) + shift


class Attention(nn.Module):
    """Multi-head attention with QK RMSNorm; keys and values come from `context`, or from the tokens."""

    def __init__(self, dim: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(context_dim, dim, bias=False)
        self.v = nn.Linear(context_dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.q_norm = nn.RMSNorm(dim, eps=EPS)
        self.k_norm = nn.RMSNorm(dim, eps=EPS)

    def forward(
        self, x_ND: Tensor, context_MD: Tensor, lengths: Lengths, context_lengths: Lengths, rope: Rope | None
    ) -> Tensor:
        q, k, v = self.q_norm(self.q(x_ND)), self.k_norm(self.k(context_MD)), self.v(context_MD)
        q, k, v = (x.unflatten(-1, (self.heads, -1)) for x in (q, k, v))
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        # Under autocast the norms give float32; the variable-length kernels want the projections' bfloat16.
        attended = packed_attention(q.to(v.dtype), k.to(v.dtype), v, lengths, context_lengths)
        return self.out(attended.flatten(1))


class Block(nn.Module):
    """One layer: x += gate * attention; x += cross-attention; x += gate * feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.modulation = nn.Linear(dim, 6 * dim)
        self.attention_norm = nn.LayerNorm(dim, eps=EPS, elementwise_affine=False)
        self.attention = Attention(dim, config.heads, dim)
        self.cross_norm = nn.RMSNorm(dim, eps=EPS)
        self.cross = Attention(dim, config.heads, config.text_dim)
        self.ffn_norm = nn.RMSNorm(dim, eps=EPS)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(config.ffn_dim, dim)
        )

    def forward(self, x_ND: Tensor, condition_BD: Tensor, text_ME: Tensor, pack: Pack, rope: Rope) -> Tensor:
        rows = pack.per_token(self.modulation(F.silu(condition_BD)))
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = rows.chunk(6, dim=1)
        h = modulate(self.attention_norm(x_ND), shift_a, scale_a)
        x_ND = x_ND + gate_a * self.attention(h, h, pack.lengths, pack.lengths, rope)
        x_ND = x_ND + self.cross(self.cross_norm(x_ND), text_ME, pack.lengths, pack.text_lengths, None)
        return x_ND + gate_f * self.ffn(modulate(self.ffn_norm(x_ND), shift_f, scale_f))


class Goku(nn.Module):
    """The velocity field v(x_t, t, text) over a pack."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        patch_dim = config.latent_channels * PATCH**2
        self.patch_in = nn.Linear(patch_dim, config.dim)
        self.time_in = nn.Sequential(nn.Linear(TIME_WIDTH, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.dim, eps=EPS, elementwise_affine=False)
        self.final_modulation = nn.Linear(config.dim, 2 * config.dim)
        self.patch_out = nn.Linear(config.dim, patch_dim)
        self.reset()

    def reset(self) -> None:
        """Draw the weights: Xavier everywhere, zero where adaLN-Zero wants it."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        gates = [module.modulation for module in self.modules() if isinstance(module, Block)]
        for layer in (self.final_modulation, self.patch_out, *gates):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, pack: Pack, t_B: Tensor) -> Tensor:
        """Return the velocity (N, 4C) of a pack whose samples stand at times t (B,) in [0, 1]."""
        exact = torch.promote_types(pack.tokens.dtype, torch.float32)
        rope = rope_table(pack.positions, self.config.rope_split, self.config.rope_theta, exact)
        condition_BD = self.time_in(timestep_features(t_B).to(self.patch_in.weight.dtype))
        x_ND = self.patch_in(pack.tokens)
        for block in self.blocks:
            x_ND = block(x_ND, condition_BD, pack.text, pack, rope)
        shift, scale = pack.per_token(self.final_modulation(F.silu(condition_BD))).chunk(2, dim=1)
        return self.patch_out(modulate(self.final_norm(x_ND), shift, scale))
