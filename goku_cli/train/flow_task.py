"""Training the transformer: rectified flow on packed latents."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goku_cli.model import flow
from goku_cli.model.checkpoint import write_weights
from goku_cli.model.noise import noise, stream
from goku_cli.model.packing import Pack, pack
from goku_cli.model.presets import ModelConfig
from goku_cli.model.transformer import Goku
from goku_cli.train.data import Latents
from goku_cli.train.settings import Recipe

HELD_OUT_EXAMPLES = 128
HELD_OUT_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)


class FlowTask:
    """What the loop asks of a kind of training: a model, a batch, a loss, an evaluation, an export."""

    def __init__(self, recipe: Recipe, config: ModelConfig, latents: Latents, rank: int, world: int) -> None:
        self.recipe = recipe
        self.latents = latents
        self.rank = rank
        self.tokens = recipe.train.tokens_per_step // world
        self.config = config
        torch.manual_seed(recipe.train.seed)
        self.model: nn.Module = Goku(config)

    def batch(self, step: int) -> tuple[Pack, Tensor, Tensor]:
        """Return a step's pack of x_t, its times (B,) and its target velocities (N, 4C)."""
        seed = self.recipe.train.seed
        rng = stream(seed, step, self.rank)
        examples = self.latents.draw(rng, self.tokens, self.recipe.flow.text_dropout)
        normal = torch.from_numpy(rng.standard_normal(len(examples), dtype="float32"))
        t_B = flow.logit_normal_time(normal, self.recipe.flow.shift)
        x_0 = [noise(z.shape, seed, step, self.rank, i + 1) for i, (z, _) in enumerate(examples)]
        return packed_line(examples, x_0, t_B)

    def loss(self, model: nn.Module, batch: tuple[Pack, Tensor, Tensor]) -> Tensor:
        """Return the mean squared error of the predicted velocity."""
        x_t, t_B, target = batch
        return (model(x_t, t_B).float() - target).square().mean()

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the flow loss on held-out clips: fixed times, fixed noise, mean and by time."""
        examples = self.latents.held_out(HELD_OUT_EXAMPLES)
        x_0 = [noise(z.shape, 0, 0, 0, i + 1) for i, (z, _) in enumerate(examples)]
        device = next(model.parameters()).device
        losses = {}
        for t in HELD_OUT_TIMES:
            x_t, t_B, target = packed_line(examples, x_0, torch.full((len(examples),), t))
            batch = (x_t.to(device), t_B.to(device), target.to(device))
            losses[f"held_out_loss_t{t:g}"] = float(self.loss(model, batch))
        return {"held_out_loss": sum(losses.values()) / len(losses), **losses}

    def export(self, folder: Path, weights: dict[str, Tensor], ema: dict[str, Tensor]) -> dict[str, Any]:
        """Write both sets of weights and return what config.json says of them."""
        write_weights(folder, "model.safetensors", weights)
        write_weights(folder, "ema.safetensors", ema)
        return {"kind": "flow", "model": asdict(self.config), "flow": asdict(self.recipe.flow)}


def packed_line(examples: list[tuple[Tensor, Tensor]], x_0: list[Tensor], t_B: Tensor) -> tuple[Pack, Tensor, Tensor]:
    """Pack x_t of every example at its own time; return (pack of x_t, times, target velocities)."""
    latents = [latent for latent, _ in examples]
    texts = [text for _, text in examples]
    x_t = [flow.interpolate(e, z, t) for e, z, t in zip(x_0, latents, t_B, strict=True)]
    v = [flow.velocity(e, z) for e, z in zip(x_0, latents, strict=True)]
    return pack(x_t, texts), t_B, pack(v, texts).tokens
