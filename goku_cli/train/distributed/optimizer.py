"""Optimizers that can be told to leave a step out, and the learning rate of a step."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from goku_cli.train.distributed.weight_shards import whole_shape
from goku_cli.train.recipe import TrainConfig

Guard = Callable[[], bool]


class GuardedAdamW(torch.optim.AdamW):
    """AdamW that asks first. DeepSpeed calls `step` once the gradient's norm is known, but with no way to say no."""

    guard: Guard = staticmethod(lambda: True)

    def step(self, closure: Any = None) -> Any:
        """Change the weights and moments, unless the guard says no: then neither."""
        return super().step(closure) if self.guard() else None


class GuardedMuon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for the matrices of the blocks, AdamW for all else; it asks first as well.

    Muon's steps are scaled to be as long as AdamW's (Liu et al. 2025), so that one learning rate serves both.
    """

    guard: Guard = staticmethod(lambda: True)

    def __init__(self, model: nn.Module, settings: TrainConfig) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        matrices = [p for name, p in named if p.ndim == 2 and "blocks." in name and "modulation" not in name]
        chosen = set(map(id, matrices))
        muon = torch.optim.Muon(
            matrices, lr=settings.lr, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        groups = _groups([p for _, p in named if id(p) not in chosen], settings)
        self._parts = (muon, torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        for part in self._parts:
            part.state = self.state

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change the weights and moments, unless the guard says no: then neither."""
        if self.guard():
            for part in self._parts:
                part.step()


def make_optimizer(model: nn.Module, settings: TrainConfig) -> GuardedAdamW | GuardedMuon:
    """Return the optimizer of a model's trained weights that the recipe names."""
    if settings.optimizer == "muon":
        return GuardedMuon(model, settings)
    trained = [p for p in model.parameters() if p.requires_grad]
    # One call for all weights: of a small model the others' hundreds of calls cost more than their arithmetic.
    return GuardedAdamW(_groups(trained, settings), lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)


def _groups(weights: list[nn.Parameter], settings: TrainConfig) -> list[dict[str, Any]]:
    """Part weights into those that decay and those that do not: vectors (biases, norms)."""
    groups = [
        {"params": [p for p in weights if len(whole_shape(p)) > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in weights if len(whole_shape(p)) <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def learning_rate(settings: TrainConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up, constant, then down to zero, linearly or as half a cosine."""
    warm = min(1.0, (step + 1) / max(settings.warmup, 1))
    if settings.schedule == "constant":
        return settings.lr * warm
    left = min(1.0, (settings.steps - step) / max(settings.decay * settings.steps, 1))
    if settings.schedule == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return settings.lr * min(warm, left)
