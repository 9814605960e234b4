"""Batches of one training step: samples drawn, assigned to ranks and packs, read, and noised.

All of it goes without the model, so that other processes than the ranks can do it (train/data/prefetch.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from goku_cli.errors import GokuError
from goku_cli.model.network.flops import step_flops
from goku_cli.model.network.packing import PATCH, Pack, pack, patchify, shape_of, token_count
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.ulysses import split_pack, true_lengths
from goku_cli.model.objective import process
from goku_cli.model.objective.objective import Objective
from goku_cli.train.data.batching import StepPlan, advice, plan_step
from goku_cli.train.data.sampler import Draws, Example, Latents
from goku_cli.train.distributed.topology import Ranks
from goku_cli.train.recipe import Recipe
from goku_cli.train.task import Step

BARREN_STEPS = 3
"""Steps in a row of which nothing can be read before a run ends: that is no bad sample, but a disk that is gone."""


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

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return the same with every tensor changed."""
        return Batch(self.x_t.map(change), change(self.t_B), change(self.target), self.weight, self.rows)

    def to(self, device: torch.device) -> "Batch":
        """Return the same on another device, which a GPU copies while it computes when this lies in pinned memory."""
        return self.map(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the same in pinned memory."""
        return self.map(Tensor.pin_memory)

    def shared_by(self, group: Any) -> "Batch":
        """Return the same, its stretch among those of a process group."""
        split = self.x_t.split
        return self if split is None else replace(self, x_t=replace(self.x_t, split=replace(split, group=group)))

    def sums(self, error_N: Tensor) -> Tensor:
        """Return the sum of every sample's squared errors (B,)."""
        sample_N = self.x_t.vision.sample[: len(error_N)]
        return error_N.new_zeros(len(self.rows)).index_add_(0, sample_N, error_N)


class Steps:
    """The packs of this rank, step by step."""

    def __init__(
        self, recipe: Recipe, config: ModelConfig, objective: Objective, latents: Latents, ranks: Ranks
    ) -> None:
        self.recipe = recipe
        self.config = config
        self.objective = objective
        self.latents = latents
        self.ranks = ranks
        self._barren = 0

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

    def pass_over(self, step: int) -> None:
        """Go on as if this step had been prepared."""
        self.latents.draw(step, self.recipe.train.tokens_per_step)

    def alone(self) -> "Steps":
        """Return the same for a process that is none of the ranks."""
        return Steps(self.recipe, self.config, self.objective, self.latents, replace(self.ranks, group=None))

    def met(self, step: Step) -> Step:
        """Return a step that came from such a process, with the ranks that share its packs."""
        return replace(step, batches=[batch.shared_by(self.ranks.group) for batch in step.batches])

    def go_to(self, position: list[int]) -> None:
        """Let the next step's samples be those that follow this position."""
        self.latents.position = [*position, 0, 0][:4]  # a checkpoint of before the tokens were counted has two numbers

    def _batch(self, examples: list[Example], weight: float, step: int) -> Batch:
        # Equally long samples side by side are attended to in one call on a CPU.
        examples = sorted(examples, key=lambda example: (example.latent.shape, len(example.text)))
        u_B = torch.tensor([example.u for example in examples])
        shapes = [shape_of(example.latent) for example in examples]
        t_B = process.training_times(self.objective, u_B.double(), shapes).float()
        return self.corrupted(examples, t_B, weight, step)

    def corrupted(self, examples: Sequence[Example], t_B: Tensor, weight: float, step: int) -> Batch:
        """Return the pack of some samples at their times t (B,), or this rank's stretch of it."""
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
            x_t, present, true = split_pack(x_t, ranks.group, ranks.sequence_rank, ranks.sequence)
            target = target[ranks.sequence_rank * len(x_t.tokens) :][:true]
            lengths = true_lengths(x_t.vision.lengths, true)
        rows = [sample_row(examples[i], float(t_B[i]), here, step) for i, here in zip(present, lengths, strict=True)]
        return Batch(x_t, t_B[present], target, weight, rows)


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
    return example.latent[:, :1] if example.use_first_frame and example.latent.shape[1] > 1 else None


def last_frame(example: Example) -> Tensor | None:
    """Return what a first-and-last-frame model is given beside the first: the last latent frame, four frames long."""
    return example.latent[:, -1:] if example.use_last_frame and example.latent.shape[1] > 1 else None
