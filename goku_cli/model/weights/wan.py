"""Wan 2.1's transformer as diffusers publishes it (WanTransformer3DModel), and the same network as our own class.

Names, tensors and configuration in both directions; every tensor keeps its bits. The prediction is the same but for
its conventions: velocity(x, t) = -wan(x, timestep = 1000 (1 - t)).

Shapes: D width, C channels of a latent, P parts of a modulation. A patch is 1x2x2.
"""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from goku_cli.errors import UsageError
from goku_cli.model.network.packing import PATCH
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import EPS, TIME_WIDTH

CLASS = "WanTransformer3DModel"

OUTSIDE = {
    "patch_embedding": "patch_in",
    "condition_embedder.time_embedder.linear_1": "time_in.0",
    "condition_embedder.time_embedder.linear_2": "time_in.2",
    "condition_embedder.time_proj": "time_out",
    "condition_embedder.text_embedder.linear_1": "text_in.0",
    "condition_embedder.text_embedder.linear_2": "text_in.2",
    "proj_out": "patch_out",
}
ATTENTIONS = {"attn1": "attention", "attn2": "cross"}
PROJECTIONS = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "out"}
QK_NORMS = {"norm_q": "q_norm", "norm_k": "k_norm"}
IN_BLOCK = {"norm2": "cross_norm", "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2"}
TABLE = "scale_shift_table"

FIXED: dict[str, Any] = {
    "patch_size": [1, PATCH, PATCH],
    "qk_norm": "rms_norm_across_heads",
    "cross_attn_norm": True,
    "freq_dim": TIME_WIDTH,
    "eps": EPS,
    "image_dim": None,
    "added_kv_proj_dim": None,
    "pos_embed_seq_len": None,
}
"""What the class can vary and ours cannot; these are also its defaults."""
OPTIONS: dict[str, Any] = dict.fromkeys(("biases", "layer_norms", "shared_modulation", "text_mlp", "noise_time"), True)
"""What makes our class Wan's."""
ROPE_THETA = 10_000.0
ROPE_LENGTH = 1024
"""Positions along an axis for which diffusers makes its table."""


def names(layers: int) -> dict[str, str]:
    """Return our name of every tensor of a model of so many layers, by its name in diffusers."""
    modules = dict(OUTSIDE)
    found = {TABLE: "final_modulation.table"}
    for block in (f"blocks.{i}" for i in range(layers)):
        found[f"{block}.{TABLE}"] = f"{block}.modulation.table"
        modules |= {f"{block}.{wan}": f"{block}.{own}" for wan, own in IN_BLOCK.items()}
        for wan, own in ATTENTIONS.items():
            modules |= {f"{block}.{wan}.{a}": f"{block}.{own}.{b}" for a, b in PROJECTIONS.items()}
            found |= {f"{block}.{wan}.{a}.weight": f"{block}.{own}.{b}.weight" for a, b in QK_NORMS.items()}
    return found | {f"{a}.{leaf}": f"{b}.{leaf}" for a, b in modules.items() for leaf in ("weight", "bias")}


def weights_from_wan(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Return the weights under our names.

    Raises:
        UsageError: a tensor is missing, or there is one that Wan 2.1's text-to-video model does not have.
    """
    known = names(layers)
    _same_names(weights, known)
    return {own: _from_wan(own, weights[wan]) for wan, own in known.items()}


def weights_to_wan(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Return the weights under diffusers' names: the inverse of `weights_from_wan`.

    Raises:
        UsageError: a tensor is missing, or there is one that Wan 2.1's text-to-video model does not have.
    """
    known = names(layers)
    _same_names(weights, known.values())
    return {wan: _to_wan(own, weights[own]) for wan, own in known.items()}


def _same_names(weights: Mapping[str, Tensor], known: Collection[str]) -> None:
    if missing := sorted(set(known) - set(weights)):
        raise UsageError(f"the weights lack {missing[0]}; the file is not whole, or its config.json is another model's")
    if added := sorted(set(weights) - set(known)):
        raise UsageError(f"the weights have {added[0]}, which Wan 2.1's text-to-video model does not have; "
                         "only that model can be converted")  # fmt: skip


def _from_wan(own: str, x: Tensor) -> Tensor:
    if own == "patch_in.weight":  # a convolution whose stride is its kernel: (D, C, 1, 2, 2)
        return x.flatten(1)
    if own.startswith("patch_out"):  # rows by place in the patch, then channel; ours by channel, then place
        return x.unflatten(0, (PATCH**2, -1)).transpose(0, 1).flatten(0, 1)
    return x[0] if own.endswith(".table") else x  # (1, P, D)


def _to_wan(own: str, x: Tensor) -> Tensor:
    if own == "patch_in.weight":
        return x.unflatten(1, (-1, 1, PATCH, PATCH))
    if own.startswith("patch_out"):
        return x.unflatten(0, (-1, PATCH**2)).transpose(0, 1).flatten(0, 1)
    return x[None] if own.endswith(".table") else x


def rope_split(head_dim: int) -> tuple[int, int, int]:
    """Return how diffusers parts a head's width among time, height and width."""
    space = 2 * (head_dim // 6)
    return head_dim - 2 * space, space, space


def config_from_wan(config: Mapping[str, Any]) -> ModelConfig:
    """Return our configuration of a WanTransformer3DModel's config.json.

    Raises:
        UsageError: an image-to-video model, or another one that our class cannot be.
    """
    channels = config["in_channels"]
    image = any(config.get(name) is not None for name in ("image_dim", "added_kv_proj_dim", "pos_embed_seq_len"))
    if image or config["out_channels"] not in (None, channels):
        raise UsageError("this is an image-to-video Wan model, whose blocks have parts that goku's have not; "
                         "only text-to-video models can be converted")  # fmt: skip
    for name, value in FIXED.items():
        found = config.get(name, value)
        if (list(found) if isinstance(found, tuple) else found) != value:
            raise UsageError(f"{name} is {found} in this model; goku's transformer has {value}")
    head_dim = config["attention_head_dim"]
    return ModelConfig(
        layers=config["num_layers"], dim=config["num_attention_heads"] * head_dim, ffn_dim=config["ffn_dim"],
        heads=config["num_attention_heads"], rope_split=rope_split(head_dim), rope_theta=ROPE_THETA,
        latent_channels=channels, text_dim=config["text_dim"], **OPTIONS,
    )  # fmt: skip


def config_to_wan(config: ModelConfig) -> dict[str, Any]:
    """Return the config.json of the WanTransformer3DModel that is this model.

    Raises:
        UsageError: there is none.
    """
    if not all(getattr(config, name) for name in OPTIONS):
        wanted = ", ".join(f"{name} = true" for name in OPTIONS)
        raise UsageError(f"only models of Wan's form load in diffusers; train one with these in [model]: {wanted}")
    if more := [name for name in ("classes", "image_condition", "absolute_positions", "pooled_text")
                if getattr(config, name)]:  # fmt: skip
        raise UsageError(f"diffusers' Wan class has no {more[0]}; take a text-to-video model without")
    head_dim = config.dim // config.heads
    wanted_rope = (rope_split(head_dim), ROPE_THETA, (1.0, 1.0, 1.0))
    if (config.rope_split, config.rope_theta, config.rope_scale) != wanted_rope:
        raise UsageError(f"diffusers' Wan class has no other RoPE than rope_split = {list(wanted_rope[0])}, "
                         f"rope_theta = {ROPE_THETA:g} and no rope_scale; train with these in [model]")  # fmt: skip
    return {
        "_class_name": CLASS, **FIXED, "in_channels": config.latent_channels, "out_channels": config.latent_channels,
        "num_layers": config.layers, "num_attention_heads": config.heads, "attention_head_dim": head_dim,
        "ffn_dim": config.ffn_dim, "text_dim": config.text_dim, "rope_max_seq_len": ROPE_LENGTH,
    }  # fmt: skip
