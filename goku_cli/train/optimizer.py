"""AdamW that can be told to leave a step out, and the learning rate of a step."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from goku_cli.train.settings import Optimization


class GuardedAdamW(torch.optim.AdamW):
    """AdamW that asks first. DeepSpeed calls `step` once the gradient's norm is known, but with no way to say no."""

    guard: Callable[[], bool] = staticmethod(lambda: True)

    def step(self, closure: Any = None) -> Any:
        """Change the weights and moments, unless the guard says no: then neither."""
        return super().step(closure) if self.guard() else None


def make_optimizer(model: nn.Module, settings: Optimization) -> GuardedAdamW:
    """Return the optimizer of a model's trained weights; vectors (biases, norms) do not decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = torch.cuda.is_available()
    return GuardedAdamW([g for g in groups if g["params"]], lr=settings.lr, betas=settings.betas, fused=fused)


def learning_rate(settings: Optimization, step: int) -> float:
    """Return the rate of a step: linear warm-up, constant, then down to zero, linearly or as half a cosine."""
    warm = min(1.0, (step + 1) / max(settings.warmup, 1))
    if settings.schedule == "constant":
        return settings.lr * warm
    left = min(1.0, (settings.steps - step) / max(settings.decay * settings.steps, 1))
    if settings.schedule == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return settings.lr * min(warm, left)
