"""The Goku transformer (paper section 3.2): full attention over packed image and video tokens.

Each block is self-attention with 3D RoPE, cross-attention to the caption, and a feed-forward network; the
timestep scales, shifts and gates the first and the last through adaLN-Zero, so that at the start the network
outputs zero. Queries and keys pass RMSNorm over the full width before the split into heads. The options of
`ModelConfig` make the same class Wan 2.1's.

Shapes: B samples, N vision tokens, M text tokens of width E, D width, P parts of a modulation.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goku_cli.model.network.activation_checkpointing import recomputed, remembered
from goku_cli.model.network.attention import packed_attention
from goku_cli.model.network.norms import LayerNorm, RMSNorm, exactly
from goku_cli.model.network.packing import PATCH, Pack, Sequences
from goku_cli.model.network.presets import ModelConfig, Recompute
from goku_cli.model.network.rope import rope_table, rotate
from goku_cli.model.network.step_cache import StepCache
from goku_cli.model.network.ulysses import Split

TIME_WIDTH = 256
EPS = 1e-6

KeysValues = tuple[Tensor, Tensor]
"""Of M rows in H heads: (M, H, d) each."""


def timestep_features(t_B: Tensor, width: int = TIME_WIDTH) -> Tensor:
    """Return sinusoids (B, width) of times in [0, 1], scaled to the 1,000 steps of the convention."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half, device=t_B.device) / half)
    angle = 1_000 * t_B.float()[:, None] * frequency
    return torch.cat((angle.cos(), angle.sin()), dim=1)


class Attention(nn.Module):
    """Multi-head attention with QK RMSNorm; keys and values come from `context`, or from the tokens."""

    def __init__(self, config: ModelConfig, context_dim: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.kernel = "auto"
        self.remembers = False
        """Its output is kept where its block is computed again."""
        self.q = nn.Linear(config.dim, config.dim, bias=config.biases)
        self.k = nn.Linear(context_dim, config.dim, bias=config.biases)
        self.v = nn.Linear(context_dim, config.dim, bias=config.biases)
        self.out = nn.Linear(config.dim, config.dim, bias=config.biases)
        self.q_norm = RMSNorm(config.dim, eps=EPS)
        self.k_norm = RMSNorm(config.dim, eps=EPS)

    def keys_values(self, context_MD: Tensor) -> KeysValues:
        """Return what the rows of a context are attended by."""
        k, v = self.k_norm(self.k(context_MD)), self.v(context_MD)
        return k.unflatten(-1, (self.heads, -1)), v.unflatten(-1, (self.heads, -1))

    def forward(
        self, x_ND: Tensor, context: Tensor | KeysValues, queries: Sequences, keys: Sequences, rope: Tensor | None,
        split: Split | None = None,
    ) -> Tensor:  # fmt: skip
        q = self.q_norm(self.q(x_ND)).unflatten(-1, (self.heads, -1))
        k, v = self.keys_values(context) if isinstance(context, Tensor) else context
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        attend = functools.partial(remembered, packed_attention) if self.remembers else packed_attention
        if split is None:
            attended = attend(q, k, v, queries, keys, self.kernel)
        else:
            q, k, v = split.to_heads(torch.cat((q, k, v), dim=2)).chunk(3, dim=2)
            attended = attend(q, k, v, split.whole, split.whole, self.kernel)
            attended = split.to_tokens(attended, self.heads)
        return self.out(attended.flatten(1))


class Modulation(nn.Module):
    """adaLN-Zero: P rows of width D per sample, computed from its condition, zero at the start.

    Each layer has a projection of its own or, when the model shares one, a table that is added to its result.
    """

    def __init__(self, config: ModelConfig, parts: int) -> None:
        super().__init__()
        self.shape = (parts, config.dim)
        if config.shared_modulation:
            self.table = nn.Parameter(torch.zeros(self.shape))
        else:
            self.project = nn.Linear(config.dim, parts * config.dim)

    def forward(self, condition: Tensor, samples: Sequences, dtype: torch.dtype) -> list[Tensor]:
        """Return P tensors that broadcast against (N, D), of a condition (B, D), or (B, P or 1, D) when shared.

        Rows of samples are few and scale all others: they are computed in the condition's precision, and rounded to
        `dtype`, that of the tokens, before they are spread over them.
        """
        with exactly(condition):
            if hasattr(self, "project"):
                rows_BPD = self.project(F.silu(condition)).unflatten(1, self.shape)
            else:
                rows_BPD = condition + self.table
        return [samples.spread(row) for row in rows_BPD.to(dtype).unbind(1)]


class Block(nn.Module):
    """One layer: x += gate * attention; x += cross-attention; x += gate * feed-forward."""

    def __init__(self, config: ModelConfig, context_dim: int) -> None:
        super().__init__()
        dim = config.dim
        self.modulation = Modulation(config, parts=6)
        self.attention_norm = LayerNorm(dim, eps=EPS, elementwise_affine=False)
        self.attention = Attention(config, dim)
        if context_dim:
            self.cross_norm = LayerNorm(dim, eps=EPS) if config.layer_norms else RMSNorm(dim, eps=EPS)
            self.cross = Attention(config, context_dim)
        plain_norm = LayerNorm(dim, eps=EPS, elementwise_affine=False)
        self.ffn_norm = plain_norm if config.layer_norms else RMSNorm(dim, eps=EPS)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(config.ffn_dim, dim)
        )

    def forward(
        self, x_ND: Tensor, condition: Tensor, text: Tensor | KeysValues, vision: Sequences, words: Sequences,
        rope: Tensor, split: Split | None = None,
    ) -> Tensor:  # fmt: skip
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = self.modulation(condition, vision, x_ND.dtype)
        h = torch.addcmul(shift_a, self.attention_norm(x_ND), 1 + scale_a)
        x_ND = torch.addcmul(x_ND, gate_a, self.attention(h, h, vision, vision, rope, split))
        if hasattr(self, "cross"):
            x_ND = x_ND + self.cross(self.cross_norm(x_ND), text, vision, words, None)
        h = torch.addcmul(shift_f, self.ffn_norm(x_ND), 1 + scale_f)
        return torch.addcmul(x_ND, gate_f, self.ffn(h))


class Goku(nn.Module):
    """The velocity field v(x_t, t, text) over a pack, or what else its objective has it predict."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = Recompute()
        dim, patch_dim = config.dim, config.latent_channels * PATCH**2
        if config.image_condition:
            self.condition_in = nn.Linear((2 + config.last_frame) * patch_dim, patch_dim)
        self.patch_in = nn.Linear(patch_dim, dim)
        if config.absolute_positions:
            self.position_in = nn.Linear(sum(config.rope_split), dim, bias=False)
        self.time_in = nn.Sequential(nn.Linear(TIME_WIDTH, dim), nn.SiLU(), nn.Linear(dim, dim))
        if config.shared_modulation:
            self.time_out = nn.Linear(dim, 6 * dim)
        if config.classes:
            self.class_in = nn.Embedding(config.classes + 1, dim)
        if config.pooled_text:
            self.pooled_in = nn.Linear(config.text_dim, dim, bias=False)
        if config.text_mlp:
            self.text_in = nn.Sequential(
                nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
            )
        context_dim = dim if config.text_mlp else config.text_dim
        self.blocks = nn.ModuleList(Block(config, context_dim) for _ in range(config.layers))
        self.final_norm = LayerNorm(dim, eps=EPS, elementwise_affine=False)
        self.final_modulation = Modulation(config, parts=2)
        self.patch_out = nn.Linear(dim, patch_dim)
        self.reset()

    def reset(self, part: nn.Module | None = None) -> None:
        """Draw the weights of a part, or of all: Xavier everywhere, zero where adaLN-Zero wants it."""
        modules = list((part or self).modules())
        for module in modules:
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.Embedding):
                module.reset_parameters()
        silent = {self.patch_out, *([self.time_out] if self.config.shared_modulation else [])}
        for module in modules:
            if isinstance(module, Modulation) or module in silent:
                for parameter in module.parameters():
                    nn.init.zeros_(parameter)
        if self.config.image_condition and self.condition_in in modules:
            self.reset_image_condition()

    @torch.no_grad()
    def reset_image_condition(self) -> None:
        """Make the layer that takes the first frame in pass the noised latent through, so that T2V is unchanged."""
        self.condition_in.weight.copy_(torch.eye(*self.condition_in.weight.shape))
        self.condition_in.bias.zero_()

    def attend_with(self, kernel: str) -> None:
        """Take this kernel of `model/network/attention.py` in every layer; "auto" is the fastest that is there."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.kernel = kernel

    def recompute_with(self, recompute: Recompute) -> None:
        """Let blocks forget what this policy says, and compute it again for their gradients."""
        self.recompute = recompute
        for i, block in enumerate(self.blocks):
            for module in block.modules():
                if isinstance(module, Attention):
                    module.remembers = recompute.policy == "attention" and recompute.covers(i)

    def text_keys(self, pack: Pack) -> tuple[KeysValues, ...]:
        """Return every layer's keys and values of a pack's text: they do not change from step to step of a solver."""
        text = self._text(pack)
        crosses = [block.get_submodule("cross") for block in self.blocks]
        return tuple(cross.keys_values(text) for cross in crosses if isinstance(cross, Attention))

    def forward(self, pack: Pack, t_B: Tensor, cache: StepCache | None = None) -> Tensor:
        """Return the prediction (N, 4C) of a pack, or of one rank's stretch of it, whose samples stand at times t (B,)
        in [0, 1]; with a cache, blocks after the first are skipped where it says so."""
        config = self.config
        exact = torch.promote_types(pack.tokens.dtype, torch.float32)
        rope = rope_table(pack.positions, config.rope_split, config.rope_theta, exact, config.rope_scale)
        condition_BD = self._condition(1 - t_B if config.noise_time else t_B, pack)
        shared = condition_BD
        if config.shared_modulation:
            with exactly(condition_BD):
                shared = self.time_out(F.silu(condition_BD)).unflatten(1, (6, -1))
        texts = pack.text_keys or (self._text(pack),) * config.layers

        def through(x_ND: Tensor, layers: range) -> Tensor:
            for i in layers:
                block = self.blocks[i]
                run = recomputed(block, self.recompute) if self.training and self.recompute.covers(i) else block
                x_ND = run(x_ND, shared, texts[i], pack.vision, pack.words, rope, pack.split)
            return x_ND

        x_ND = self.patch_in(self._with_given_frames(pack))
        if config.absolute_positions:
            x_ND = x_ND + self.position_in(rope.flatten(1).to(x_ND.dtype))
        if cache is None:
            x_ND = through(x_ND, range(config.layers))
        else:
            ends = range(1), range(1, config.layers)
            x_ND = cache.through(x_ND, pack.vision, lambda x: through(x, ends[0]), lambda x: through(x, ends[1]))
        last = condition_BD[:, None] if config.shared_modulation else condition_BD
        shift, scale = self.final_modulation(last, pack.vision, x_ND.dtype)
        v_NC: Tensor = self.patch_out(torch.addcmul(shift, self.final_norm(x_ND), 1 + scale))
        return -v_NC if config.noise_time else v_NC

    def _text(self, pack: Pack) -> Tensor:
        return self.text_in(pack.text) if self.config.text_mlp else pack.text

    def _condition(self, t_B: Tensor, pack: Pack) -> Tensor:
        with exactly(t_B):
            condition_BD: Tensor = self.time_in(timestep_features(t_B).to(self.patch_in.weight.dtype))
            if self.config.classes:
                if pack.labels is None:
                    raise ValueError("a class-conditional model needs the labels of its pack")
                condition_BD = condition_BD + self.class_in(pack.labels)
            if self.config.pooled_text:
                condition_BD = condition_BD + self.pooled_in(pack.words.pool(pack.text.to(condition_BD.dtype)))
        return condition_BD

    def _with_given_frames(self, pack: Pack) -> Tensor:
        if not self.config.image_condition:
            return pack.tokens
        given = [pack.first_frames, pack.last_frames] if self.config.last_frame else [pack.first_frames]
        frames = [torch.zeros_like(pack.tokens) if frame is None else frame for frame in given]
        aligned: Tensor = self.condition_in(torch.cat((pack.tokens, *frames), dim=1))
        return aligned
