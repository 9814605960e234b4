"""Wan 2.1's transformer as its authors published it (class WanModel), brought to the layout of diffusers."""

from typing import Any

from torch import Tensor

from goku_cli.errors import UsageError

CLASS = "WanModel"
TEXT_DIM = 4096
"""Of umT5-XXL; the published config.json does not say it."""


def config_from_original(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config.json of the WanTransformer3DModel that a WanModel's describes.

    Raises:
        UsageError: it is not a text-to-video model.
    """
    if config["model_type"] != "t2v":
        raise UsageError(f"this is Wan's {config['model_type']} model; only t2v, text to video, can be converted")
    return {
        "in_channels": config["in_dim"], "out_channels": config["out_dim"], "num_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"], "attention_head_dim": config["dim"] // config["num_heads"],
        "ffn_dim": config["ffn_dim"], "freq_dim": config["freq_dim"], "eps": config["eps"],
        "text_dim": config.get("text_dim", TEXT_DIM),
    }  # fmt: skip


def weights_from_original(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under diffusers' names."""
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    return convert_wan_transformer_to_diffusers(dict(weights))  # type: ignore[no-any-return]
