"""Small transformers for tests."""

import torch

from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import Goku

CONFIG = ModelConfig(
    layers=2, dim=32, ffn_dim=64, heads=2, rope_split=(4, 6, 6), rope_theta=1e4, latent_channels=4, text_dim=12
)
WAN = {"biases": True, "layer_norms": True, "shared_modulation": True, "text_mlp": True, "noise_time": True}


def awake(config: ModelConfig = CONFIG, dtype: torch.dtype = torch.float64) -> Goku:
    """A model whose zero-initialized parts are not zero; equal ones for equal configurations."""
    model = Goku(config).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return model.to(dtype)
