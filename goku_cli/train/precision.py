"""The precision in which a run computes: one for its steps, its evaluations and its previews."""

import torch

from goku_cli.train.recipe import Recipe


def precision(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Return the autocast that the engine's own forward pass runs under, for what is computed outside of it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.train.bf16)
