"""Deciding: the tier's limits applied to the figures by the database. Nothing is decoded here."""

from collections.abc import Sequence

import numpy as np

from goku_cli.filter.tier import HASH_PARTS, Duplicates, Limits, Tier
from goku_cli.manifest.bounds import Bound, first_broken, rule_of
from goku_cli.manifest.selections import replace_selection
from goku_cli.manifest.store import Manifest
from goku_cli.media.layout import GRID, color_distance


def decide(manifest: Manifest, name: str, tier: Tier) -> bool:
    """Write the selection `name`: every clip with weight 1, and the first broken limit when it is dropped.

    Returns whether anything changed: the same tier on the same figures leaves the rows as they are.
    """
    metrics = sorted(tier.video.scores.keys() | tier.image.scores.keys())
    columns = ", ".join(f"max(value) FILTER (metric = {_text(m)}) AS {_metric(m)}" for m in metrics)
    manifest.execute(
        "CREATE OR REPLACE TEMP TABLE decided AS SELECT id AS clip, CASE kind "
        f"WHEN 'image' THEN {first_broken(_bounds(tier.image, name))} "
        f"ELSE {first_broken(_bounds(tier.video, name))} END AS reason "
        f"FROM clip_files LEFT JOIN (SELECT clip{', ' + columns if columns else ''} FROM scores GROUP BY clip) "
        "ON clip = id"
    )
    _drop_duplicates(manifest, tier.duplicates)
    return replace_selection(manifest, name, "SELECT clip, 1.0::DOUBLE AS weight, reason FROM decided")


def summary(manifest: Manifest, name: str) -> list[tuple[str, int]]:
    """Return how many clips were kept, and how many each limit dropped, the commonest first."""
    rows = manifest.query(
        f"SELECT coalesce({rule_of('reason')}, 'kept') AS rule, count(*) AS n "
        "FROM selections WHERE name = ? GROUP BY rule ORDER BY rule <> 'kept', n DESC, rule",
        [name],
    )
    return [(row["rule"], row["n"]) for row in rows]


def _bounds(limits: Limits, where: str) -> list[Bound]:
    sides = [("short side", limits.short_side, "least"), ("long side", limits.long_side, "greatest")]
    found = [Bound(label, f"{pick}(width, height)", span.min, span.max, "px") for label, span, pick in sides]
    found += [Bound(metric, _metric(metric), span.min, span.max) for metric, span in limits.ranges(where).items()]
    return found


def _metric(name: str) -> str:
    return '"metric_' + name.replace('"', '""') + '"'


def _text(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _drop_duplicates(manifest: Manifest, limits: Duplicates) -> None:
    """Among the kept, drop what looks like a better one: same kind, near in hash and in colors."""
    manifest.execute(
        "CREATE OR REPLACE TEMP TABLE hashed AS SELECT id, kind, ('0x' || key_hash)::UBIGINT AS hash, "
        "row_number() OVER (ORDER BY coalesce(value, 0) DESC, id) AS rank "
        "FROM decided JOIN clip_files ON id = decided.clip "
        "LEFT JOIN scores ON scores.clip = id AND metric = 'aesthetic' WHERE reason IS NULL"
    )
    width = 64 // HASH_PARTS
    part = f"(hash >> (band * {width})::INTEGER) & {2**width - 1}"
    bands = f"SELECT *, unnest(range({HASH_PARTS})) AS band, {part} AS part FROM hashed"
    pairs = manifest.query(
        f"WITH bands AS ({bands}) SELECT DISTINCT better.rank, better.id AS better, worse.id AS worse, "
        "bit_count(xor(better.hash, worse.hash)) AS distance FROM bands better JOIN bands worse "
        "USING (band, part, kind) WHERE better.rank < worse.rank AND distance <= ? ORDER BY better.rank, distance",
        [limits.hash_distance],
    )
    reasons = _duplicates(manifest, [(p["better"], p["worse"], p["distance"]) for p in pairs], limits)
    manifest.execute("CREATE OR REPLACE TEMP TABLE twins (clip TEXT, reason TEXT, run BIGINT)")
    manifest.insert("twins", [{"clip": clip, "reason": reason} for clip, reason in reasons.items()])
    manifest.execute("UPDATE decided SET reason = twins.reason FROM twins WHERE twins.clip = decided.clip")


def _duplicates(manifest: Manifest, pairs: Sequence[tuple[str, str, int]], limits: Duplicates) -> dict[str, str]:
    """Go through the pairs, best clips first: a dropped clip drops no other."""
    named = list({clip for pair in pairs for clip in pair[:2]})
    rows = manifest.query("SELECT id, key_colors FROM clips WHERE list_contains(?, id)", [named])
    colors = {row["id"]: np.array(row["key_colors"], np.uint8).reshape(GRID, GRID, 3) for row in rows}
    dropped: dict[str, str] = {}
    for better, worse, distance in pairs:
        if better in dropped or worse in dropped:
            continue
        apart = color_distance(colors[better], colors[worse])
        if apart <= limits.color_distance:
            dropped[worse] = f"near duplicate (hash {distance}, colors {apart:.2g} apart) of {better}"
    return dropped
