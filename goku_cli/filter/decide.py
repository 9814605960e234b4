"""Deciding: the tier's limits applied to the figures by the database. Nothing is decoded here."""

from goku_cli.filter.duplicates import drop_duplicates
from goku_cli.filter.scorers import label
from goku_cli.filter.tier import Limits, Tier
from goku_cli.manifest.bounds import Bound, first_broken, quoted, rule_of
from goku_cli.manifest.selections import replace_selection
from goku_cli.manifest.store import Manifest, Row


def decide(manifest: Manifest, tier: Tier) -> None:
    """Make the temporary table `decided`: every clip, and the first limit that it breaks, or NULL.

    Figures are those of the scorers in use; the better of two alike is the one with more aesthetic score.
    """
    kinds = [(kind, _bounds(limits, tier)) for kind, limits in (("image", tier.image), ("video", tier.video))]
    cases = " ".join(f"WHEN '{kind}' THEN {first_broken(bounds)}" for kind, bounds in kinds)
    manifest.execute(
        "CREATE OR REPLACE TEMP TABLE decided AS SELECT id AS clip, kind, source, key_hash, "
        f'"metric_aesthetic" AS merit, CASE kind {cases} END AS reason FROM {_figures(tier)}'
    )
    drop_duplicates(manifest, tier.duplicates)


def keep(manifest: Manifest, tier: Tier) -> bool:
    """Write `decided` as the selection of the tier's name, every clip with weight 1; return whether it changed."""
    return replace_selection(manifest, tier.name, "SELECT clip, 1.0::DOUBLE AS weight, reason FROM decided")


def summary(manifest: Manifest) -> list[tuple[str, int]]:
    """Return how many clips of `decided` are kept, and how many each limit drops, the commonest first."""
    rows = manifest.query(
        f"SELECT coalesce({rule_of('reason')}, 'kept') AS rule, count(*) AS n "
        "FROM decided GROUP BY rule ORDER BY rule <> 'kept', n DESC, rule"
    )
    return [(row["rule"], row["n"]) for row in rows]


def explain(manifest: Manifest, tier: Tier, clip: Row) -> list[Row]:
    """Return each rule's value, bound and verdict for a clip (its id and kind), after `decide`."""
    bounds = _bounds(tier.image if clip["kind"] == "image" else tier.video, tier)
    columns = ", ".join(
        f"{bound.expression} AS value_{i}, {first_broken([bound])} AS broken_{i}" for i, bound in enumerate(bounds)
    )
    (found,) = manifest.query(f"SELECT {columns} FROM {_figures(tier)} WHERE id = ?", [clip["id"]])
    rules = [_rule(tier, bound, found[f"value_{i}"], found[f"broken_{i}"]) for i, bound in enumerate(bounds)]
    reason = manifest.value("SELECT reason FROM decided WHERE clip = ?", [clip["id"]])
    twin = reason if reason is not None and reason.startswith("near duplicate") else None
    rules.append(
        {"rule": "near duplicate", "scorer": "", "value": None, "bound": _likeness(tier)}
        | {"verdict": f"DROPPED: {twin}" if twin else ("ok" if reason is None else "not asked")}
    )
    return rules


def _rule(tier: Tier, bound: Bound, value: float | None, broken: str | None) -> Row:
    verdict = "ok" if broken is None else f"DROPPED: {broken}"
    scorer = tier.scorers.get(bound.label, "")
    return {"rule": bound.label, "scorer": scorer, "value": value, "bound": bound.text(), "verdict": verdict}


def _likeness(tier: Tier) -> str:
    limits = tier.duplicates
    if limits.hash_distance < 0:
        return "off"
    where = "across the set" if limits.scope == "set" else "within a source"
    return f"hash <= {limits.hash_distance} bits and colors <= {limits.color_distance:g} {where}"


def _figures(tier: Tier) -> str:
    """Return SQL for the clips with a column for the figure of each scorer in use."""
    columns = ", ".join(
        f"max(value) FILTER (metric = {quoted(metric)} AND scorer = {quoted(label(name))}) AS {_metric(metric)}"
        for metric, name in tier.scorers.items()
    )
    return f"(SELECT * FROM clip_files LEFT JOIN (SELECT clip, {columns} FROM scores GROUP BY clip) ON clip = id)"


def _bounds(limits: Limits, tier: Tier) -> list[Bound]:
    sides = [("short side", limits.short_side, "least"), ("long side", limits.long_side, "greatest")]
    found = [Bound(name, f"{pick}(width, height)", span.min, span.max, "px") for name, span, pick in sides]
    ranges = limits.ranges(tier.scorers, tier.where)
    return found + [Bound(metric, _metric(metric), span.min, span.max) for metric, span in ranges.items()]


def _metric(name: str) -> str:
    return '"metric_' + name.replace('"', '""') + '"'
