"""From noise to latents under classifier-free guidance (Ho and Salimans 2022), for a pack of samples of any sizes.

Guidance leads from a second prediction, without the text or of a negative prompt, to that of the prompt, and beyond.
It may be left out where it does harm: outside an interval of times (Kynkaanniemi et al. 2024), and in the first steps,
where an imprecise velocity is worse than none (CFG-Zero*, Fan et al. 2025).

Shapes: N vision tokens of C channels in a pack of B samples, S steps.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from goku_cli.model.network.packing import Pack, Shape, pack, shape_of, token_count, unpack
from goku_cli.model.network.step_cache import StepCache
from goku_cli.model.network.transformer import Goku
from goku_cli.model.network.ulysses import split_pack
from goku_cli.model.objective import flow
from goku_cli.model.objective.objective import Objective
from goku_cli.model.objective.process import prediction, sampling_times
from goku_cli.model.sampling.solvers import solve

BATCH_TOKENS = 16_384
"""Vision tokens that are sampled together."""
KEY_BYTES = 2 << 30
"""Most memory for keys and values of texts that are kept from step to step."""


@dataclass(frozen=True)
class Guidance:
    """How samples are drawn."""

    steps: int
    strength: float
    """1 is none and costs half."""
    solver: str
    """Row of the table of solvers (model/sampling/solvers.py)."""
    image_strength: float = 0.0
    """Of the first frame, apart from the text's, which costs half as much again; 0: the two are not told apart."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Times between which there is guidance; 0 is noise."""
    zero_init: int = 0
    """First steps in which nothing moves."""
    cache: float = 0.0
    """Threshold of `StepCache`; 0 computes every block."""


@dataclass(frozen=True)
class Condition:
    """What a sample is drawn from, beside its noise."""

    text: Tensor
    """(m, E)"""
    empty: Tensor
    """(m, E): what guidance leads away from, the empty text's or a negative prompt's."""
    label: int | None = None
    """Of a class-conditional model."""
    first_frame: Tensor | None = None
    """(C, 1, H, W), of an image-to-video model."""
    last_frame: Tensor | None = None
    """The same, where the model was trained with last frames too."""


@dataclass(frozen=True)
class Share:
    """The ranks that draw one pack together, by sequence (model/network/ulysses.py)."""

    group: Any
    """The torch process group."""
    rank: int
    degree: int


def batches(shapes: Sequence[Shape]) -> Iterator[slice]:
    """Yield which samples of these latent shapes are drawn together, in order."""
    first = tokens = 0
    for i, shape in enumerate(shapes):
        tokens += token_count(shape)
        if tokens >= BATCH_TOKENS or i + 1 == len(shapes):
            yield slice(first, i + 1)
            first, tokens = i + 1, 0


@torch.no_grad()
def draw(
    model: Goku, objective: Objective, x_0: list[Tensor], conditions: list[Condition], how: Guidance,
    device: torch.device, *, share: Share | None = None, stepped: Callable[[], None] = lambda: None,
) -> "Drawn":  # fmt: skip
    """Draw the latents that the model makes of noise x_0 of their shapes.

    Args:
        share: the ranks that draw this pack together, each with the same arguments; all get the result.
        stepped: called after every step.

    Raises:
        UsageError: no such solver or none for this objective, or less than one step.
    """
    shapes = [shape_of(noise) for noise in x_0]
    times_SB = sampling_times(objective, how.steps, shapes)
    lengths = torch.tensor([token_count(shape) for shape in shapes])
    times_SN1 = times_SB.repeat_interleave(lengths, dim=1)[..., None].to(device)
    field = _Field(model, objective, x_0, conditions, how, device, share)
    silent = min(how.zero_init, how.steps - 1)
    for _ in range(silent):
        stepped()
    x_1 = field.noise
    for x_t in solve(objective, how.solver, field, field.noise, times_SN1[silent:]):
        x_1 = x_t
        stepped()
    return Drawn(unpack(x_1, shapes), field.evaluations, field.skipped)


@dataclass(frozen=True)
class Drawn:
    """What was drawn, and how much of it was computed."""

    latents: list[Tensor]
    """(C, T, H, W) each."""
    evaluations: int
    """Of the network, with a cache."""
    skipped: int
    """Of those, in how many all blocks but the first were skipped."""


class _Field:
    """The guided prediction at (x, t): its branches ride in one pack, the prompts' first."""

    def __init__(
        self, model: Goku, objective: Objective, x_0: list[Tensor], conditions: list[Condition], how: Guidance,
        device: torch.device, share: Share | None,
    ) -> None:  # fmt: skip
        self.objective = objective
        self.how = how
        lengths = torch.tensor([token_count(shape_of(noise)) for noise in x_0], device=device)
        self.first_B = lengths.cumsum(0) - lengths
        branches = [conditions]
        if how.strength != 1 or how.image_strength:
            branches.append([replace(c, text=c.empty, label=_any_label(model, c)) for c in conditions])
        if how.image_strength:
            branches.append([replace(c, first_frame=None, last_frame=None) for c in branches[1]])
        self.branches = [_Branches(model, x_0, branches, how, device, share)]
        if len(branches) > 1 and how.interval != (0.0, 1.0):
            self.branches.append(_Branches(model, x_0, branches[:1], how, device, share))
        self.noise = self.branches[0].pack.tokens[: int(lengths.sum())]

    def __call__(self, x_NC: Tensor, t_N1: Tensor) -> Tensor:
        low, high = self.how.interval
        inside_N1 = (t_N1 >= low) & (t_N1 <= high)
        chosen = self.branches[0 if inside_N1.any() else -1]
        outputs = chosen(x_NC, t_N1[self.first_B, 0].to(x_NC)).unflatten(0, (-1, len(x_NC)))
        v_NC, *others = prediction(self.objective, outputs, x_NC, t_N1)
        if len(others) == 1:
            v_NC = torch.where(inside_N1, flow.guide(v_NC, others[0], self.how.strength), v_NC)
        elif others:
            image, nothing = others
            guided = flow.guide_apart(v_NC, image, nothing, self.how.strength, self.how.image_strength)
            v_NC = torch.where(inside_N1, guided, v_NC)
        return v_NC

    @property
    def evaluations(self) -> int:
        return sum(part.cache.evaluations for part in self.branches if part.cache)

    @property
    def skipped(self) -> int:
        return sum(part.cache.skipped for part in self.branches if part.cache)


class _Branches:
    """The network over some branches in one pack."""

    def __init__(
        self, model: Goku, x_0: list[Tensor], branches: list[list[Condition]], how: Guidance, device: torch.device,
        share: Share | None,
    ) -> None:  # fmt: skip
        conditions = [condition for branch in branches for condition in branch]
        self.model = model
        self.share = share
        self.copies = len(branches)
        self.cache = StepCache(how.cache, share and share.group) if how.cache else None
        self.pack = pack(
            x_0 * self.copies, [condition.text for condition in conditions],
            labels=[condition.label or 0 for condition in conditions] if model.config.classes else None,
            first_frames=[condition.first_frame for condition in conditions] if model.config.image_condition else None,
            last_frames=[condition.last_frame for condition in conditions] if model.config.last_frame else None,
            text_rows=model.config.text_rows,
        ).to(device)  # fmt: skip
        self.mine, self.present = self.pack, list(range(len(conditions)))
        if share is not None:
            mine, self.present, _ = split_pack(self.pack.to(torch.device("cpu")), share.group, share.rank, share.degree)
            self.mine = mine.to(device)
        self.mine = self._with_text_keys(self.mine)

    def __call__(self, x_NC: Tensor, t_B: Tensor) -> Tensor:
        """Return the network's outputs of all branches, one below the other."""
        tokens, t_B = x_NC.repeat(self.copies, 1), t_B.repeat(self.copies)
        if self.share is None:
            return self.model(replace(self.mine, tokens=tokens), t_B, self.cache)
        total, rows = len(tokens), len(self.mine.tokens)
        start = self.share.rank * rows
        filled = torch.nn.functional.pad(tokens, (0, 0, 0, rows * self.share.degree - total))
        mine = replace(self.mine, tokens=filled[start : start + rows])
        v_nC = self.model(mine, t_B[self.present], self.cache).contiguous()
        parts = [torch.empty_like(v_nC) for _ in range(self.share.degree)]
        dist.all_gather(parts, v_nC, group=self.share.group)
        return torch.cat(parts)[:total]

    def _with_text_keys(self, mine: Pack) -> Pack:
        config = self.model.config
        size = 2 * config.layers * len(mine.text) * config.dim * mine.text.element_size()
        elsewhere = next(self.model.blocks.parameters()).device != mine.text.device  # blocks come one at a time
        if not config.text_dim or size > KEY_BYTES or elsewhere:
            return mine
        return replace(mine, text_keys=self.model.text_keys(mine))


def _any_label(model: Goku, condition: Condition) -> int | None:
    return None if condition.label is None else model.config.classes
