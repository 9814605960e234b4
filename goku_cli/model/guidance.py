"""From noise to latents under classifier-free guidance (Ho and Salimans 2022), for a pack of samples of any sizes.

Shapes: N vision tokens of C channels in a pack of B samples, S steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from goku_cli.model import flow
from goku_cli.model.objective import Objective
from goku_cli.model.packing import Shape, pack, shape_of, token_count, unpack
from goku_cli.model.process import sampling_times
from goku_cli.model.solvers import solve
from goku_cli.model.transformer import Goku

BATCH_TOKENS = 16_384
"""Vision tokens that are sampled together."""


@dataclass(frozen=True)
class Guidance:
    """How samples are drawn."""

    steps: int
    strength: float
    """1 is none and costs half."""
    solver: str
    """Row of the table of solvers (model/solvers.py)."""


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
    model: Goku, objective: Objective, x_0: list[Tensor], texts: list[Tensor], empty: Tensor, how: Guidance,
    device: torch.device,
) -> list[Tensor]:  # fmt: skip
    """Return the latents (C, T, H, W) that the model makes of noise x_0 of their shapes.

    Args:
        texts: the states (m, E) of each sample's prompt.
        empty: those of the empty text.

    Raises:
        UsageError: no such solver or none for this objective, or less than one step.
    """
    shapes = [shape_of(noise) for noise in x_0]
    guided = how.strength != 1
    # Both branches of guidance ride in one pack: first with the prompts, then with the empty text.
    copies = 2 if guided else 1
    texts = texts + [empty] * (len(texts) * (copies - 1))
    both = pack(x_0 * copies, texts, text_rows=model.config.text_rows).to(device)
    n = len(both.tokens) // copies
    lengths = torch.tensor([token_count(shape) for shape in shapes])
    first_B = lengths.cumsum(0) - lengths

    def field(x_NC: Tensor, t_N1: Tensor) -> Tensor:
        t_B = t_N1[first_B, 0].to(x_NC).repeat(copies)
        v_NC = model(replace(both, tokens=x_NC.repeat(copies, 1)), t_B)
        return flow.guide(v_NC[:n], v_NC[n:], how.strength) if guided else v_NC

    times_SB = sampling_times(objective, how.steps, shapes)
    times_SN1 = times_SB.repeat_interleave(lengths, dim=1)[..., None]
    *_, x_1 = solve(objective, how.solver, field, both.tokens[:n], times_SN1)
    return unpack(x_1, shapes)
