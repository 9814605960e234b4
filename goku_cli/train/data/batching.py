"""Assignment of a step's samples to packs and ranks: balanced by cost, not by tokens.

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

Numbers = Sequence[float] | np.ndarray
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


def plan_step(costs: Numbers, tokens: Numbers, ranks: int, max_tokens: int) -> StepPlan:
    """Give every sample of a step its rank and its pack.

    Args:
        costs: of each sample, in any unit, e.g. `flops.step_flops`.
        tokens: vision tokens of each sample.
        ranks: how many share the step.
        max_tokens: most vision tokens of a pack; 0 for no limit.

    Raises:
        UsageError: a sample alone is longer than a pack may be.
    """
    sizes = np.asarray(tokens)
    if max_tokens and sizes.max() > max_tokens:
        raise UsageError(f"a sample has {sizes.max()} tokens, more than the {max_tokens} of max_tokens; raise that")
    members, totals = assign(costs, ranks)
    packs = [cut(chosen, sizes, max_tokens) for chosen in members]
    most = max(map(len, packs))
    even = [own + [[] for _ in range(most - len(own))] for own in packs]
    return StepPlan(even, float(np.mean(totals) / max(totals)), int(sizes.sum()))


def assign(costs: Numbers, ranks: int) -> tuple[list[list[int]], list[float]]:
    """Return the samples of each rank, and their cost: the dearest first, each to the rank with the least so far."""
    members: list[list[int]] = [[] for _ in range(ranks)]
    loads = [(0.0, rank) for rank in range(ranks)]
    order = np.argsort(-np.asarray(costs), kind="stable")
    for i, cost in zip(order.tolist(), np.asarray(costs)[order].tolist(), strict=True):
        load, rank = loads[0]
        members[rank].append(i)
        heapq.heapreplace(loads, (load + cost, rank))
    return members, [load for load, _ in sorted(loads, key=lambda one: one[1])]


def cut(members: Sequence[int], tokens: Numbers, max_tokens: int) -> Packs:
    """Cut a rank's samples into packs of at most `max_tokens`, the longest first into the first that has room."""
    chosen = np.sort(np.asarray(members, np.int64))
    order = chosen[np.argsort(-np.asarray(tokens)[chosen], kind="stable")]
    sizes = np.asarray(tokens)[order].tolist()
    if not max_tokens:
        return [order.tolist()] if len(order) else []
    packs: Packs = []
    room: list[int] = []
    first, before = 0, 0
    for i, size in zip(order.tolist(), sizes, strict=True):
        first = first if size == before else 0  # what has no room for a sample has none for another like it
        while first < len(packs) and room[first] < size:
            first += 1
        if first == len(packs):
            packs.append([])
            room.append(max_tokens)
        packs[first].append(i)
        room[first] -= size
        before = size
    return packs


def advice(costs: Numbers, tokens: Numbers, ranks: int) -> str:
    """Return what would balance steps like this one better; nothing when one long sample is not the cause."""
    share = np.sum(costs) / ranks
    if np.max(costs) <= share:
        return ""
    needed = np.sum(tokens) * np.max(costs) / share
    return f"one sample of {np.max(tokens)} tokens costs more than a rank's share; try tokens_per_step = {needed:.0f}"
