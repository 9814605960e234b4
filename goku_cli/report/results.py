"""The table `results` as pages show it: a table for each suite over each set of samples."""

from dataclasses import dataclass
from typing import Any

from goku_cli.manifest.figures import pivot
from goku_cli.manifest.store import Manifest


@dataclass(frozen=True)
class Results:
    """The figures of one suite over one set of samples."""

    name: str
    suite: str
    expected: int
    """Samples that should have been scored."""
    columns: list[str]
    lines: list[list[Any]]


def results_of(manifest: Manifest, name: str | None = None) -> list[Results]:
    """Return one table per suite of a set of samples, or of every set, the newest first."""
    found = []
    for row in manifest.query(
        "SELECT name, suite, max(expected) AS expected FROM results WHERE name = coalesce(?, name) GROUP BY ALL"
        " ORDER BY max(run) DESC, name, suite DESC",
        [name],
    ):
        figures = manifest.query(
            "SELECT metric, tag, value, low, high, n FROM results WHERE name = ? AND suite = ? ORDER BY rowid",
            [row["name"], row["suite"]],
        )
        found.append(Results(row["name"], row["suite"], row["expected"], *pivot(figures)))
    return found
