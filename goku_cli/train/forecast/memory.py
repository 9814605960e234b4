"""GPU memory of a training rank, in bytes, from the numbers of a recipe; nothing is allocated.

Weights, gradients and the optimizer's state follow from DeepSpeed's ZeRO stages (distributed/engine.py), activations
from what autograd keeps of `transformer.Block`: each term below is a tensor that can be found in it. Both are compared
with measurement in tests/test_forecast.py. Without `torch.compile`, which keeps less.

Letters: P parameters, W ranks, n vision and m text tokens of a rank at once, D width, E width of the text states.
"""

import functools
from dataclasses import dataclass

import torch
from torch import nn

from goku_cli.model.network.packing import PATCH
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import Goku, Modulation
from goku_cli.train.distributed.lora import add_adapters
from goku_cli.train.recipe import Lora, Recipe

FLOAT = 4
BUCKET = 500_000_000
"""Numbers in one of ZeRO's buffers for reducing gradients (reduce_bucket_size); it is allocated whole."""
LIVE = 1_000_000_000
"""Weights that ZeRO 3 holds gathered at a time (stage3_max_live_parameters)."""
PERSISTENT = 100_000
"""ZeRO 3 does not part weights that are smaller (stage3_param_persistence_threshold)."""
GRADIENTS_AT_ONCE = 16
"""Bytes of gradients of activations by token and width that are alive at once."""


@dataclass(frozen=True)
class Counts:
    """How many numbers a model has."""

    parameters: int
    trained: int
    """Of them; all but those beside which adapters learn."""
    blocks: int
    """Of them in the transformer's blocks, which is how the paper's sizes are named."""
    cast: int
    """Of them in linear layers that compute in bfloat16 when the recipe says so."""
    small: int
    """Of them in weights that ZeRO 3 leaves whole."""


@functools.cache
def count(config: ModelConfig, lora: Lora = Lora()) -> Counts:  # noqa: B008
    """Count the weights of a model, with its adapters, that is built without memory."""
    with torch.device("meta"):
        model = Goku(config)
        blocks = sum(p.numel() for p in model.blocks.parameters())
        if lora.rank:
            add_adapters(model, lora)
    exact = {id(m) for part in model.modules() if isinstance(part, Modulation) for m in part.modules()}
    exact |= {id(m) for m in model.time_in.modules()}
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and id(m) not in exact]
    sizes = [p.numel() for p in model.parameters()]
    return Counts(
        sum(sizes), sum(p.numel() for p in model.parameters() if p.requires_grad), blocks,
        sum(p.numel() for m in linear for p in m.parameters()), sum(n for n in sizes if n <= PERSISTENT),
    )  # fmt: skip


@dataclass(frozen=True)
class Held:
    """What lies on a GPU at once, the fullest that it gets."""

    samples: int
    """In the pack that this rank has a part of."""
    tokens: int
    """n: vision tokens of this rank."""
    text_tokens: int
    """m: text tokens of this rank."""


def states(counts: Counts, recipe: Recipe, ranks: int) -> dict[str, float]:
    """Return the bytes of weights, gradients, optimizer and averages on the GPU of one of `ranks` ranks."""
    parallel = recipe.parallel
    weights, learned = FLOAT * counts.parameters, FLOAT * counts.trained
    share = learned / ranks
    averages = len(recipe.train.ema) + len(recipe.train.ema_lengths)
    if parallel.zero_stage == 0:
        return {"weights": weights, "gradients": learned, "optimizer": 2 * learned, "averages": averages * learned}
    on_gpu = 0 if parallel.offload_optimizer else 1  # averages lie where the optimizer's weights do
    if parallel.zero_stage < 3:
        gradients = learned if parallel.zero_stage == 1 else share * on_gpu
        # The optimizer has its share of the weights a second time, with two moments of each.
        return {
            "weights": weights, "gradients": gradients, "optimizer": 3 * share * on_gpu,
            "averages": averages * share * on_gpu,
        }  # fmt: skip
    parted = 0 if parallel.offload_weights else weights / ranks
    grouped = weights / parallel.shard_group if parallel.shard_group else 0
    # The optimizer changes the weights themselves: it has two moments, and no copy of them.
    return {
        "weights": FLOAT * counts.small + parted + grouped, "gradients": share * on_gpu,
        "optimizer": 2 * share * on_gpu, "averages": averages * share * on_gpu,
    }  # fmt: skip


def layer_bytes(config: ModelConfig, held: Held, policy: str, *, bf16: bool, split: bool) -> float:
    """Return what autograd keeps of one layer: `none` forgets nothing; for `attention` and `full` see
    activation_checkpointing.py."""
    n, d = held.tokens, config.dim
    half = 2 if bf16 else FLOAT
    if policy == "full":
        return half * n * d
    parts = 2 if config.text_dim else 1
    if policy == "attention":
        return half * n * d + parts * n * (half * d + FLOAT * config.heads)
    # The layer's input, the stream after each part, and what the norms give to adaLN; 1 + scale and gates of several.
    stream = (5 if parts == 2 else 4) + (4 if held.samples > 1 else 0)
    # The input; q and k for their norms, and the result for the gate; what attention takes and gives; and once more
    # what comes from the other ranks.
    attention = 1 + 3 + 4 + split
    cross = 4 if parts == 2 else 0
    ffn = 2 + 2 * config.ffn_dim / d
    statistics = FLOAT * parts * config.heads + FLOAT * 8
    context = d if config.text_mlp else config.text_dim
    # Autocast copies the text for each of k and v.
    text: float = held.text_tokens * half * ((2 * context if bf16 else 0) + 3 * d) if parts == 2 else 0
    return n * (half * d * (stream + attention + cross + ffn) + statistics) + text


def activations(config: ModelConfig, counts: Counts, recipe: Recipe, held: Held) -> float:
    """Return what the whole model keeps of a pack between its forward and its backward pass."""
    recompute, bf16 = recipe.train.recompute, recipe.train.bf16
    split = recipe.parallel.sequence > 1
    kept = sum(
        layer_bytes(config, held, recompute.policy if recompute.covers(i) else "none", bf16=bf16, split=split)
        for i in range(config.layers)
    )
    half = 2 if bf16 else FLOAT
    # The last layer's output and what adaLN makes of it; tokens, target, velocity and error.
    wide = half * (3 + (held.samples > 1))
    ends = held.tokens * (wide * config.dim + FLOAT * 5 * config.latent_channels * PATCH**2)
    rope = held.tokens * FLOAT * config.dim // config.heads
    remembered = sum(not recompute.covers(i) for i in range(config.layers)) / config.layers
    # A product keeps its cast weight for the gradient of its input; text states need none.
    of_texts = 0 if config.text_mlp else 2 * config.layers * config.text_dim * config.dim
    return kept + ends + rope + (2 * (counts.cast - of_texts) * remembered if bf16 else 0)


def text_bytes(config: ModelConfig, held: Held) -> float:
    """Return the text states of a pack."""
    return float(FLOAT * held.text_tokens * config.text_dim)


def gradient_bytes(config: ModelConfig, recipe: Recipe, held: Held) -> float:
    """Return what one layer holds while its gradient is computed, beside what was kept."""
    settings, split = recipe.train, recipe.parallel.sequence > 1
    flowing = GRADIENTS_AT_ONCE * held.tokens * config.dim
    if settings.recompute.policy == "none":
        return flowing
    again = layer_bytes(config, held, "none", bf16=settings.bf16, split=split)
    return flowing + again - layer_bytes(config, held, "full", bf16=settings.bf16, split=split)


def workspace(config: ModelConfig, counts: Counts, recipe: Recipe, held: Held) -> float:
    """Return what comes and goes: buffers of ZeRO, casts of weights, and one layer while its gradient is computed."""
    settings, stage = recipe.train, recipe.parallel.zero_stage
    # Autocast remembers its casts until the forward pass ends, also of layers that forget the rest.
    casts = 2 * counts.cast if settings.bf16 and settings.recompute.policy != "none" else 0
    buffers = min(BUCKET, counts.trained) * FLOAT
    if stage in (1, 2):
        buffers = BUCKET * FLOAT * (2 if settings.bf16 else 1)
    if stage == 3:
        buffers = BUCKET * (FLOAT + (2 if settings.bf16 else 0)) + min(LIVE, counts.parameters) * FLOAT
    return max(gradient_bytes(config, recipe, held), casts) + buffers
