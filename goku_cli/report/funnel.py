"""The funnel: how many sources and clips each step left, and what took the others."""

from dataclasses import dataclass

from goku_cli.manifest.bounds import rule_of
from goku_cli.manifest.store import Manifest

BALANCED = "-balanced"


@dataclass(frozen=True)
class Step:
    """One line of the funnel."""

    label: str
    count: int
    kind: str
    """left (what is there after a step) or lost (what a rule took)."""
    unit: str
    """sources or clips."""


def base_selection(manifest: Manifest, name: str | None) -> str | None:
    """Return the selection that filter wrote: the one named, or the newest; None before filter ran."""
    if not manifest.value("SELECT count(*) FROM selections"):
        return None
    return manifest.selection(name).removesuffix(BALANCED)


def funnel(manifest: Manifest, selection: str | None) -> list[Step]:
    """Return the steps from raw files to latents, as far as the manifest has come."""
    steps = [
        Step("files that failed", _count(manifest, "failures WHERE stage = 'ingest'"), "lost", "sources"),
        Step("sources", _count(manifest, "sources"), "left", "sources"),
        *_lost(manifest, "rejected", "sources", "sources", []),
        Step("sources within the rules", _count(manifest, "sources WHERE rejected IS NULL"), "left", "sources"),
        Step("clips", _count(manifest, "clips"), "left", "clips"),
    ]
    if selection is not None:
        steps += _selected(manifest, selection)
    return [step for step in steps if step.count or step.kind == "left"]


def _selected(manifest: Manifest, selection: str) -> list[Step]:
    kept = "selections WHERE name = ? AND reason IS NULL"
    captioned = f"{kept} AND clip IN (SELECT clip FROM captions WHERE kind = 'merged')"
    encoded = f"{kept} AND clip IN (SELECT clip FROM latents)"
    both = [selection], [selection + BALANCED]
    return [
        *_lost(manifest, "reason", "selections WHERE name = ? AND reason IS NOT NULL", "clips", both[0]),
        Step(f"kept by {selection}", _count(manifest, kept, both[0]), "left", "clips"),
        Step("captioned", _count(manifest, captioned, both[0]), "left", "clips"),
        Step("balanced", _count(manifest, kept, both[1]), "left", "clips"),
        Step("encoded", _count(manifest, encoded, both[0]), "left", "clips"),
    ]


def _lost(manifest: Manifest, column: str, where: str, unit: str, values: list[str]) -> list[Step]:
    rows = manifest.query(
        f"SELECT {rule_of('reason')} AS rule, count(*) AS n FROM (SELECT {column} AS reason FROM {where}) "
        "WHERE reason IS NOT NULL GROUP BY rule ORDER BY n DESC, rule",
        values,
    )
    return [Step(row["rule"], row["n"], "lost", unit) for row in rows]


def _count(manifest: Manifest, what: str, values: list[str] | None = None) -> int:
    return int(manifest.value(f"SELECT count(*) FROM {what}", values or []))
