"""Training the transformer on packed latents: what a step's packs are, and their loss."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goku_cli.errors import GokuError
from goku_cli.model import process
from goku_cli.model.checkpoint import read_weights
from goku_cli.model.flops import step_flops
from goku_cli.model.objective import Objective
from goku_cli.model.packing import PATCH, Pack, pack, patchify, shape_of, token_count
from goku_cli.model.presets import ModelConfig
from goku_cli.model.transformer import Goku
from goku_cli.model.ulysses import split_pack, true_lengths
from goku_cli.train.data import Draws, Example, Latents
from goku_cli.train.lora import add_adapters, write_merged
from goku_cli.train.packer import StepPlan, advice, plan_step
from goku_cli.train.ranks import Ranks
from goku_cli.train.settings import Recipe
from goku_cli.train.step import Step

HELD_OUT_EXAMPLES = 128
HELD_OUT_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
BARREN_STEPS = 3
"""Steps in a row of which nothing can be read before a run ends: that is no bad sample, but a disk that is gone."""
TIME_BINS = 5
KINDS = ("images", "videos")


@dataclass(frozen=True)
class Batch:
    """One pack, or this rank's stretch of it, on its way to the loss: B samples in N tokens."""

    x_t: Pack
    t_B: Tensor
    target: Tensor
    """(N, 4C), of the true tokens"""
    weight: float
    """What the sum of squared errors is multiplied by, so that the ranks' mean is that of the step's tokens."""
    rows: list[dict[str, Any]]
    """What is told of each sample beside its loss."""

    def to(self, device: torch.device) -> "Batch":
        """Return the same on another device."""
        return Batch(self.x_t.to(device), self.t_B.to(device), self.target.to(device), self.weight, self.rows)

    def sums(self, error_N: Tensor) -> Tensor:
        """Return the sum of every sample's squared errors (B,)."""
        sample_N = self.x_t.vision.sample[: len(error_N)]
        return error_N.new_zeros(len(self.rows)).index_add_(0, sample_N, error_N)


class Seen:
    """Losses of samples since they were last asked for, still on the device: to read one would make it wait."""

    def __init__(self) -> None:
        self._found: list[tuple[list[dict[str, Any]], Tensor]] = []

    def add(self, rows: list[dict[str, Any]], sums_B: Tensor) -> None:
        """Take in the sums of a pack's squared errors."""
        self._found.append((rows, sums_B))

    def take(self) -> list[dict[str, Any]]:
        """Return a row per sample, `error` the sum over `values` numbers on this rank, and forget them."""
        found, self._found = self._found, []
        return [{**row, "error": error} for rows, sums in found for row, error in zip(rows, sums.tolist(), strict=True)]


class FlowTask:
    """What the loop asks of a kind of training (train/step.py), for the transformer."""

    def __init__(
        self, recipe: Recipe, config: ModelConfig, objective: Objective, latents: Latents, ranks: Ranks
    ) -> None:
        self.recipe = recipe
        self.objective = objective
        self.latents = latents
        self.ranks = ranks
        self.config = config
        torch.manual_seed(recipe.train.seed)
        self.model = Goku(config)
        self.model.recompute_with(recipe.train.recompute)
        self.model.attend_with(recipe.train.attention)
        if recipe.train.compile:
            for block in self.model.blocks:
                block.compile(dynamic=True)
        self.base = Path()
        """The checkpoint whose weights adapters are added to."""
        self._since_log, self._since_save = Seen(), Seen()
        self._barren = 0

    def adapt(self, base: Path) -> None:
        """Train adapters beside the weights that the model has now, those of the checkpoint `base`."""
        self.base = base
        add_adapters(self.model, self.recipe.lora)

    def plan(self, step: int) -> tuple[Draws, StepPlan, dict[str, float | str]]:
        """Draw a step, give its samples to packs, and say how they lie; every rank computes the same."""
        settings = self.recipe.train
        draws = self.latents.draw(step, settings.tokens_per_step)
        tokens, costs = draws.tokens, step_flops(self.config, draws.tokens, draws.text_tokens)
        planned = plan_step(costs, tokens, self.ranks.packs, settings.max_tokens * self.ranks.sequence)
        flops = float(costs.sum())
        figures: dict[str, float | str] = {"balance": planned.balance, "tokens": planned.tokens, "flops": flops}
        if hint := advice(costs, tokens, self.ranks.packs):
            figures["hint"] = hint
        return draws, planned, figures

    def prepare(self, step: int) -> Step:
        """Read this rank's packs of a step, x_t of every sample at its own time.

        Raises:
            GokuError: nothing at all could be read, again and again.
        """
        draws, planned, figures = self.plan(step)
        shortest = draws[int(draws.tokens.argmin())]
        values = planned.tokens * self.config.latent_channels * 4
        batches, lost = [], []
        for members in planned.ranks[self.ranks.pack]:
            examples = []
            for draw in [draws[i] for i in members]:
                try:
                    examples.append(self.latents.read(draw))
                except GokuError as error:
                    lost.append(str(error))
            # A rank that has nothing keeps the others company with a sample that counts for nothing.
            weight = self.ranks.world / values if examples else 0.0
            batches.append(self._batch(examples or [self.latents.blank(shortest)], weight, step))
        self._barren = self._barren + 1 if lost and not any(batch.weight for batch in batches) else 0
        if self._barren == BARREN_STEPS:
            raise GokuError(f"no sample of {BARREN_STEPS} steps in a row could be read, e.g. {lost[-1]}")
        return Step(batches, list(self.latents.position), figures, lost)

    def go_to(self, position: list[int]) -> None:
        """Let the next step's samples be those that follow this position."""
        self.latents.position = [*position, 0, 0][:4]  # a checkpoint of before the tokens were counted has two numbers

    def _batch(self, examples: list[Example], weight: float, step: int) -> Batch:
        # Equally long samples side by side are attended to in one call on a CPU.
        examples = sorted(examples, key=lambda example: (example.latent.shape, len(example.text)))
        u_B = torch.tensor([example.u for example in examples])
        shapes = [shape_of(example.latent) for example in examples]
        t_B = process.training_times(self.objective, u_B.double(), shapes).float()
        return self._corrupted(examples, t_B, weight, step)

    def _corrupted(self, examples: Sequence[Example], t_B: Tensor, weight: float, step: int) -> Batch:
        x_1 = pack(
            [example.latent for example in examples],
            # A model that has no cross-attention reads no text.
            [example.text if self.config.text_dim else example.text[:0] for example in examples],
            labels=[example.label or 0 for example in examples] if self.config.classes else None,
            first_frames=[first_frame(example) for example in examples] if self.config.image_condition else None,
            last_frames=[last_frame(example) for example in examples] if self.config.last_frame else None,
            text_rows=self.config.text_rows,
        )
        # Noise, data and times meet as tokens: all samples at once.
        x_0_NC, t_N1 = patchify([example.x_0 for example in examples]), x_1.vision.spread(t_B[:, None])
        x_t = replace(x_1, tokens=process.corrupt(self.objective, x_0_NC, x_1.tokens, t_N1))
        target = process.target(self.objective, x_0_NC, x_1.tokens, t_N1)
        lengths = list(x_t.vision.lengths)
        present = list(range(len(lengths)))
        if self.ranks.sequence > 1:
            ranks = self.ranks
            x_t, present, true = split_pack(x_t, ranks.group, ranks.stretch, ranks.sequence)
            target = target[ranks.stretch * len(x_t.tokens) :][:true]
            lengths = true_lengths(x_t.vision.lengths, true)
        rows = [sample_row(examples[i], float(t_B[i]), here, step) for i, here in zip(present, lengths, strict=True)]
        return Batch(x_t, t_B[present], target, weight, rows)

    def _errors(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the squared errors (N,) of the true tokens, summed over a token's numbers."""
        x_t, true = batch.x_t, len(batch.target)
        t_N1 = x_t.vision.spread(batch.t_B[:, None])[:true]
        output = model(x_t, batch.t_B)[:true]
        predicted = process.prediction(self.objective, output, x_t.tokens[:true], t_N1)
        error: Tensor = (predicted.float() - batch.target).square().sum(1)
        return error

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return this pack's part of the mean squared error over the step's tokens."""
        error_N = self._errors(model, batch)
        if batch.weight:
            sums = batch.sums(error_N.detach())
            self._since_log.add(batch.rows, sums)
            self._since_save.add(batch.rows, sums)
        return error_N.sum() * batch.weight

    def diagnose(self) -> dict[str, float]:
        """Return the loss by time and by kind, of all ranks, since the last call; all of them ask at once."""
        sums = np.zeros((2, TIME_BINS + len(KINDS)))
        for row in self._since_log.take():
            for bin_ in min(int(row["t"] * TIME_BINS), TIME_BINS - 1), TIME_BINS + int(row["frames"] > 1):
                sums[:, bin_] += row["error"], row["values"]
        found = torch.from_numpy(sums)
        errors, numbers = self.ranks.total(found.to(next(self.model.parameters()).device)).tolist()
        names = [f"loss_t{(i + 0.5) / TIME_BINS:g}" for i in range(TIME_BINS)] + [f"loss_{kind}" for kind in KINDS]
        return {name: error / n for name, error, n in zip(names, errors, numbers, strict=True) if n}

    def records(self) -> list[dict[str, Any]]:
        """Return a row per sample since the last call."""
        return self._since_save.take()

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the loss on held-out clips: fixed times, fixed noise; the mean, by time and by kind."""
        examples = self.latents.held_out(HELD_OUT_EXAMPLES)
        tokens = [token_count(example.latent.shape) for example in examples]
        costs = [step_flops(self.config, n, len(e.text)) for n, e in zip(tokens, examples, strict=True)]
        limit = self.recipe.train.max_tokens * self.ranks.sequence
        planned = plan_step(costs, tokens, self.ranks.packs, limit)
        device = next(model.parameters()).device
        # errors and numbers, by time and by kind (images, videos)
        found = torch.zeros(2, len(HELD_OUT_TIMES), 2, dtype=torch.float64, device=device)
        for members in planned.ranks[self.ranks.pack]:
            chosen = [examples[i] for i in members] or [min(examples, key=lambda e: token_count(e.latent.shape))]
            for i, t in enumerate(HELD_OUT_TIMES):
                batch = self._corrupted(chosen, torch.full((len(chosen),), t), float(bool(members)), 0).to(device)
                sums = batch.sums(self._errors(model, batch)) * batch.weight
                for row, error in zip(batch.rows, sums, strict=True):
                    kind = int(row["frames"] > 1)
                    found[0, i, kind] += error
                    found[1, i, kind] += row["values"] * batch.weight
        return _held_out_figures(*self.ranks.total(found).cpu())

    def describe(self, folder: Path) -> dict[str, Any]:
        """Return what config.json says of a checkpoint; of adapters, write the weights with them added as well."""
        if self.recipe.lora.rank:
            write_merged(folder, read_weights(self.base, "ema.safetensors"), self.recipe.lora)
        return {
            "kind": "flow", "model": asdict(self.config), "objective": asdict(self.objective),
            "flow": asdict(self.recipe.flow), "bf16": self.recipe.train.bf16,
        }  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """Return nothing: all that a resumed run needs is weights, and follows from step and position."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""


def _held_out_figures(errors: Tensor, numbers: Tensor) -> dict[str, float]:
    by_time = errors.sum(1) / numbers.sum(1)
    figures = {"held_out_loss": float(by_time.mean())}
    figures |= {f"held_out_loss_t{t:g}": float(x) for t, x in zip(HELD_OUT_TIMES, by_time, strict=True)}
    for kind, name in enumerate(KINDS):
        if numbers[:, kind].all():
            figures[f"held_out_loss_{name}"] = float((errors[:, kind] / numbers[:, kind]).mean())
    return figures


def sample_row(example: Example, t: float, here: int, step: int) -> dict[str, Any]:
    """Return what is told of a sample: `here` of its `tokens` are on this rank, and make `values` numbers."""
    channels, frames, height, width = example.latent.shape
    return {
        "step": step, "clip": example.clip, "key": example.key, "t": t, "frames": frames, "height": height,
        "width": width, "tokens": token_count(example.latent.shape), "caption": example.source, "here": here,
        "values": here * channels * PATCH**2,
    }  # fmt: skip


def first_frame(example: Example) -> Tensor | None:
    """Return what image-to-video is given of a clip (paper section 3.4); nothing of an image, which is one frame."""
    return example.latent[:, :1] if example.given and example.latent.shape[1] > 1 else None


def last_frame(example: Example) -> Tensor | None:
    """Return what a first-and-last-frame model is given beside the first: the last latent frame, four frames long."""
    return example.latent[:, -1:] if example.led and example.latent.shape[1] > 1 else None
