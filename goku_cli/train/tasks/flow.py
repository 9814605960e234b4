"""Training the transformer on packed latents (data/batches.py): losses by pack, by sample, and on held-out clips."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goku_cli.model.network.flops import step_flops
from goku_cli.model.network.packing import token_count
from goku_cli.model.network.transformer import Goku
from goku_cli.model.objective import process
from goku_cli.model.weights.checkpoint import read_weights
from goku_cli.train.data.batches import Batch, Steps
from goku_cli.train.data.batching import plan_step
from goku_cli.train.data.prefetch import ProcessPrefetcher, Source, ThreadPrefetcher
from goku_cli.train.distributed.lora import add_adapters, write_merged
from goku_cli.train.task import Step

HELD_OUT_EXAMPLES = 128
HELD_OUT_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
GPU_READERS = 2
"""Processes that prepare steps for each rank that has a GPU: a thread of the rank holds up its launches of kernels."""
TIME_BINS = 5
KINDS = ("images", "videos")


class LossAccumulator:
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
    """What the loop asks of a kind of training (train/task.py), for the transformer."""

    def __init__(self, steps: Steps, model: Goku) -> None:
        self.steps = steps
        self.recipe, self.config, self.objective, self.ranks = steps.recipe, steps.config, steps.objective, steps.ranks
        settings = self.recipe.train
        self.model = model
        self.model.recompute_with(settings.recompute)
        self.model.attend_with(settings.attention)
        if settings.compile:
            for block in self.model.blocks:
                block.compile(dynamic=True)
        self.base = Path()
        """The checkpoint whose weights adapters are added to."""
        self._losses_to_log, self._losses_to_save = LossAccumulator(), LossAccumulator()

    def adapt(self, base: Path) -> None:
        """Train adapters beside the weights that the model has now, those of the checkpoint `base`."""
        self.base = base
        add_adapters(self.model, self.recipe.lora)

    def prepare(self, step: int) -> Step:
        """Read this rank's packs of a step."""
        return self.steps.prepare(step)

    def go_to(self, position: list[int]) -> None:
        """Let the next step's samples be those that follow this position."""
        self.steps.go_to(position)

    def ahead(self) -> Source:
        """Return what prepares steps ahead: processes of their own, as many as the recipe says, or a thread."""
        readers = self.recipe.parallel.readers
        if readers < 0:
            readers = GPU_READERS if torch.cuda.is_available() else 0
        return ProcessPrefetcher(self.steps, readers) if readers else ThreadPrefetcher(self.prepare)

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
            self._losses_to_log.add(batch.rows, sums)
            self._losses_to_save.add(batch.rows, sums)
        return error_N.sum() * batch.weight

    def diagnose(self) -> dict[str, float]:
        """Return the loss by time and by kind, of all ranks, since the last call; all of them ask at once."""
        sums = np.zeros((2, TIME_BINS + len(KINDS)))
        for row in self._losses_to_log.take():
            for bin_ in min(int(row["t"] * TIME_BINS), TIME_BINS - 1), TIME_BINS + int(row["frames"] > 1):
                sums[:, bin_] += row["error"], row["values"]
        found = torch.from_numpy(sums)
        errors, numbers = self.ranks.total(found.to(next(self.model.parameters()).device)).tolist()
        names = [f"loss_t{(i + 0.5) / TIME_BINS:g}" for i in range(TIME_BINS)] + [f"loss_{kind}" for kind in KINDS]
        return {name: error / n for name, error, n in zip(names, errors, numbers, strict=True) if n}

    def records(self) -> list[dict[str, Any]]:
        """Return a row per sample since the last call."""
        return self._losses_to_save.take()

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the loss on held-out clips: fixed times, fixed noise; the mean, by time and by kind."""
        examples = self.steps.latents.held_out(HELD_OUT_EXAMPLES)
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
                batch = self.steps.corrupted(chosen, torch.full((len(chosen),), t), float(bool(members)), 0).to(device)
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
