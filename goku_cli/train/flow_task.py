"""Training the transformer on packed latents: what a step's packs are, and their loss."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goku_cli.model import process
from goku_cli.model.checkpoint import write_weights
from goku_cli.model.flops import step_flops
from goku_cli.model.objective import Objective
from goku_cli.model.packing import Pack, pack, patchify, shape_of
from goku_cli.model.presets import ModelConfig
from goku_cli.model.transformer import Goku
from goku_cli.train.data import Draw, Example, Latents
from goku_cli.train.packer import StepPlan, advice, plan_step
from goku_cli.train.settings import Recipe

HELD_OUT_EXAMPLES = 128
HELD_OUT_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Batch:
    """One pack on its way to the loss: B samples in N tokens."""

    x_t: Pack
    t_B: Tensor
    target: Tensor
    """(N, 4C)"""
    weight: float
    """What the sum of squared errors is multiplied by, so that the ranks' mean is that of the step's tokens."""

    def to(self, device: torch.device) -> "Batch":
        """Return the same on another device."""
        return Batch(self.x_t.to(device), self.t_B.to(device), self.target.to(device), self.weight)


class FlowTask:
    """What the loop asks of a kind of training: a model, batches, a loss, an evaluation, an export."""

    def __init__(
        self, recipe: Recipe, config: ModelConfig, objective: Objective, latents: Latents, rank: int, world: int
    ) -> None:
        self.recipe = recipe
        self.objective = objective
        self.latents = latents
        self.rank = rank
        self.world = world
        self.config = config
        torch.manual_seed(recipe.train.seed)
        self.model = Goku(config)
        self.model.recompute = recipe.train.recompute
        self.model.attend_with(recipe.train.attention)
        if recipe.train.compile:
            for block in self.model.blocks:
                block.compile(dynamic=True)
        self.figures: dict[str, float] = {}
        self.hint = ""
        self._losses: list[Tensor] = []
        self._times: list[Tensor] = []

    def plan(self, step: int) -> tuple[list[Draw], StepPlan]:
        """Draw a step and give its samples to ranks and packs; every rank computes the same."""
        settings = self.recipe.train
        draws = self.latents.draw(step, settings.tokens_per_step)
        costs = [step_flops(self.config, draw.tokens, draw.text_tokens) for draw in draws]
        tokens = [draw.tokens for draw in draws]
        planned = plan_step(costs, tokens, self.world, settings.max_tokens)
        self.figures = {"balance": planned.balance, "tokens": planned.tokens, "flops": sum(costs)}
        self.hint = advice(costs, tokens, self.world)
        return draws, planned

    def batches(self, step: int) -> Iterable[Batch]:
        """Yield this rank's packs of a step, x_t of every sample at its own time."""
        draws, planned = self.plan(step)
        shortest = min(range(len(draws)), key=lambda i: draws[i].tokens)
        values = planned.tokens * self.config.latent_channels * 4
        for members in planned.ranks[self.rank]:
            # A rank that has nothing left keeps the others company with a sample that counts for nothing.
            examples = [self.latents.read(draws[i]) for i in members or [shortest]]
            yield self._batch(examples, self.world / values if members else 0.0)

    def _batch(self, examples: list[Example], weight: float) -> Batch:
        # Equally long samples side by side are attended to in one call on a CPU.
        examples = sorted(examples, key=lambda example: (example.latent.shape, len(example.text)))
        u_B = torch.tensor([example.u for example in examples])
        shapes = [shape_of(example.latent) for example in examples]
        t_B = process.training_times(self.objective, u_B.double(), shapes).float()
        return self._corrupted(examples, t_B, weight)

    def _corrupted(self, examples: Sequence[Example], t_B: Tensor, weight: float) -> Batch:
        objective = self.objective
        triples = [(example.x_0, example.latent, t) for example, t in zip(examples, t_B, strict=True)]
        x_t = pack(
            [process.corrupt(objective, *triple) for triple in triples],
            [example.text for example in examples],
            first_frames=[first_frame(example.latent) for example in examples] if self.config.image_condition else None,
        )
        target = torch.cat([patchify(process.target(objective, *triple)) for triple in triples])
        return Batch(x_t, t_B, target, weight)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return this pack's part of the mean squared error over the step's tokens."""
        error_N = (model(batch.x_t, batch.t_B).float() - batch.target).square().sum(1)
        lengths = batch.x_t.vision.lengths
        if batch.weight:
            sums = torch.stack([part.sum() for part in error_N.detach().split(lengths)])
            self._losses.append((sums / torch.tensor(lengths, device=sums.device) / batch.target.shape[1]).cpu())
            self._times.append(batch.t_B.cpu())
        return error_N.sum() * batch.weight

    def diagnose(self) -> dict[str, float | str]:
        """Return the loss by time since the last call, of this rank's samples, and how the last step was packed."""
        by_time = {}
        if self._losses:
            by_time = process.loss_by_time(torch.cat(self._losses), torch.cat(self._times))
        self._losses, self._times = [], []
        hint = {"hint": self.hint} if self.hint else {}
        return {**{f"loss_{name}": value for name, value in by_time.items()}, **self.figures, **hint}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the loss on held-out clips: fixed times, fixed noise, mean and by time."""
        examples = self.latents.held_out(HELD_OUT_EXAMPLES)
        device = next(model.parameters()).device
        losses = {}
        for t in HELD_OUT_TIMES:
            batch = self._corrupted(examples, torch.full((len(examples),), t), 1.0).to(device)
            error = model(batch.x_t, batch.t_B).float() - batch.target
            losses[f"held_out_loss_t{t:g}"] = float(error.square().mean())
        return {"held_out_loss": sum(losses.values()) / len(losses), **losses}

    def export(self, folder: Path, weights: dict[str, Tensor], ema: dict[str, Tensor]) -> dict[str, Any]:
        """Write both sets of weights and return what config.json says of them."""
        write_weights(folder, "model.safetensors", weights)
        write_weights(folder, "ema.safetensors", ema)
        return {
            "kind": "flow", "model": asdict(self.config), "objective": asdict(self.objective),
            "flow": asdict(self.recipe.flow),
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return nothing: all that a resumed run needs is in the engine, or follows from the step."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""


def first_frame(latent_CTHW: Tensor) -> Tensor | None:
    """Return what image-to-video is given of a clip (paper section 3.4); nothing of an image, which is one frame."""
    return latent_CTHW[:, :1] if latent_CTHW.shape[1] > 1 else None
