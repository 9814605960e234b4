"""Suggested changes for a recipe whose run does not fit into the memory of its GPUs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from goku_cli.errors import GokuError, UsageError
from goku_cli.model.network.presets import POLICIES, Recompute
from goku_cli.train.forecast.forecast import Forecast, Plan, gigabytes

NODE = 8
"""GPUs that are close enough to share packs: attention waits for what they exchange."""
Offer = tuple[str, Plan]
"""A change as the recipe says it, and what is planned then."""


def check_fits(plan: Plan, found: Forecast) -> None:
    """Refuse a run whose forecast this is when it does not fit.

    Raises:
        GokuError: a GPU has less memory; the message names what would help.
    """
    if found.total_bytes > found.room:
        raise GokuError(f"a GPU would hold {gigabytes(found.total_bytes)}, and {plan.machine.gpu} has room for "
                        f"{gigabytes(found.room)}; {advice(plan)}")  # fmt: skip


def advice(plan: Plan) -> str:
    """Return the first change that makes a run fit; if none does alone, the first few that do together."""
    for what, changed in (offer for group in GROUPS for offer in group(plan)):
        if _fits(changed):
            return f"set {what}"
    said: list[str] = []
    for group in GROUPS:
        offers = list(group(plan))
        for what, changed in offers:
            if _fits(changed):
                return f"set {', '.join([*said, what])}"
        if offers:
            said, plan = [*said, offers[-1][0]], offers[-1][1]
    return "nothing in the recipe helps: take more GPUs, or larger ones"


def _fits(plan: Plan) -> bool:
    try:
        found = plan.forecast()
    except UsageError:
        return False
    return found.total_bytes <= found.room


def _recompute(plan: Plan) -> Iterator[Offer]:
    for policy in POLICIES[POLICIES.index(plan.recipe.train.recompute.policy) + 1 :]:
        yield f'recompute = {{policy = "{policy}"}}', _train(plan, recompute=Recompute(policy))


def _zero_stage(plan: Plan) -> Iterator[Offer]:
    if plan.recipe.train.optimizer == "muon":  # it works on whole matrices
        return
    for stage in range(plan.recipe.parallel.zero_stage + 1, 4):
        yield f"zero_stage = {stage}", _parallel(plan, zero_stage=stage)


def _sequence(plan: Plan) -> Iterator[Offer]:
    for degree in range(plan.recipe.parallel.sequence + 1, min(plan.config.heads, plan.machine.gpus, NODE) + 1):
        if plan.machine.gpus % degree == 0:
            tokens = -(-plan.longest // degree)
            changed = _train(_parallel(plan, sequence=degree), max_tokens=tokens)
            yield f"sequence = {degree} with max_tokens = {tokens}", changed


def _max_tokens(plan: Plan) -> Iterator[Offer]:
    tokens = -(-plan.longest // plan.recipe.parallel.sequence)
    if not plan.recipe.train.max_tokens or tokens < plan.recipe.train.max_tokens:
        yield f"max_tokens = {tokens}", _train(plan, max_tokens=tokens)


def _offload(plan: Plan) -> Iterator[Offer]:
    parallel = plan.recipe.parallel
    if parallel.zero_stage and not parallel.offload_optimizer:
        yield "offload_optimizer = true", _parallel(plan, offload_optimizer=True)
    if parallel.zero_stage == 3 and not parallel.offload_weights:
        yield (
            "offload_optimizer = true and offload_weights = true",
            _parallel(plan, offload_optimizer=True, offload_weights=True),
        )


GROUPS: tuple[Callable[[Plan], Iterator[Offer]], ...] = (_recompute, _zero_stage, _sequence, _max_tokens, _offload)
"""What can be changed, the cheapest first; within a group, one thing more and more."""


def _train(plan: Plan, **changes: Any) -> Plan:
    return replace(plan, recipe=replace(plan.recipe, train=replace(plan.recipe.train, **changes)))


def _parallel(plan: Plan, **changes: Any) -> Plan:
    return replace(plan, recipe=replace(plan.recipe, parallel=replace(plan.recipe.parallel, **changes)))
