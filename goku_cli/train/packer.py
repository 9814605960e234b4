"""Which samples of a step share a pack, and on which rank: balanced by cost, not by tokens.

A long sample costs more per token than a short one, so packs of equal tokens leave ranks waiting (57 to 64 % of the
work is useful on a mix of images and clips). Here a step's samples go to the ranks by longest processing time first
(Graham 1969): each, from the dearest down, to the rank with the least to do. A rank's samples are then cut into
packs that fit in memory, which are run one after the other before the weights change. Which samples a step has does
not depend on the ranks, so another number of them learns the same from the same step.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from goku_cli.errors import UsageError

Packs = list[list[int]]
"""Indices of a step's samples, pack by pack; a pack may be empty."""


@dataclass(frozen=True)
class StepPlan:
    """One step's samples on their ranks."""

    ranks: list[Packs]
    """Every rank has equally many packs, since they meet after each."""
    balance: float
    """Useful share of the time: the mean cost of a rank over that of the dearest."""
    tokens: int
    """Vision tokens of the step, over all ranks."""


def plan_step(costs: Sequence[float], tokens: Sequence[int], ranks: int, max_tokens: int) -> StepPlan:
    """Give every sample of a step its rank and its pack.

    Args:
        costs: of each sample, in any unit, e.g. `flops.step_flops`.
        tokens: vision tokens of each sample.
        ranks: how many share the step.
        max_tokens: most vision tokens of a pack; 0 for no limit.

    Raises:
        UsageError: a sample alone is longer than a pack may be.
    """
    if max_tokens and max(tokens) > max_tokens:
        raise UsageError(f"a sample has {max(tokens)} tokens, more than the {max_tokens} of max_tokens; raise that")
    members = assign(costs, ranks)
    totals = [sum(costs[i] for i in chosen) for chosen in members]
    packs = [cut(chosen, tokens, max_tokens) for chosen in members]
    most = max(map(len, packs))
    even = [own + [[] for _ in range(most - len(own))] for own in packs]
    return StepPlan(even, float(np.mean(totals) / max(totals)), sum(tokens))


def assign(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Return the samples of each rank: the dearest first, each to the rank with the least cost so far."""
    members: list[list[int]] = [[] for _ in range(ranks)]
    loads = [(0.0, rank) for rank in range(ranks)]
    for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, rank = heapq.heappop(loads)
        members[rank].append(i)
        heapq.heappush(loads, (load + costs[i], rank))
    return members


def cut(members: Sequence[int], tokens: Sequence[int], max_tokens: int) -> Packs:
    """Cut a rank's samples into packs of at most `max_tokens`, the longest first into the first that has room."""
    packs: list[tuple[int, list[int]]] = []
    for i in sorted(members, key=lambda i: (-tokens[i], i)):
        for place, (held, pack) in enumerate(packs):
            if not max_tokens or held + tokens[i] <= max_tokens:
                pack.append(i)
                packs[place] = (held + tokens[i], pack)
                break
        else:
            packs.append((tokens[i], [i]))
    return [pack for _, pack in packs]


def advice(costs: Sequence[float], tokens: Sequence[int], ranks: int) -> str:
    """Return what would balance steps like this one better; nothing when one long sample is not the cause."""
    share = sum(costs) / ranks
    if max(costs) <= share:
        return ""
    needed = sum(tokens) * max(costs) / share
    return f"one sample of {max(tokens)} tokens costs more than a rank's share; try tokens_per_step = {needed:.0f}"
