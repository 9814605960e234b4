"""What a set of samples scored, for a page: every figure, and the samples that a metric puts highest and lowest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from goku_cli.manifest.store import Manifest, Row
from goku_cli.report.pictures import filmstrip
from goku_cli.report.results import Results, results_of

SHOWN = 12
"""Samples at either end of a metric."""
LOOKED_AT = ("shapes.strict", "video.sharpness")
"""Metrics whose ends are shown when none is asked for."""


@dataclass(frozen=True)
class Ends:
    """The samples at both ends of a metric: rows with prompt, seed, value and picture."""

    metric: str
    lowest: list[Row]
    highest: list[Row]


@dataclass(frozen=True)
class Scores:
    """Everything on the page."""

    name: str
    coverage: Sequence[str]
    """What was expected, found and scored, and what the reader must know, a line each."""
    results: list[Results]
    """A table for each suite."""
    figures: list[Row]
    """Rows of `results`."""
    ends: list[Ends]
    comparison: tuple[str, list[str], list[list[Any]]] | None
    """What it was compared with: a line, columns and lines."""


def gather_scores(
    manifest: Manifest, name: str, coverage: Sequence[str], metrics: Sequence[str] = (),
    comparison: tuple[str, list[str], list[list[Any]]] | None = None,
) -> Scores:  # fmt: skip
    """Read what is known of a set of samples; `metrics` are those whose ends are shown."""
    figures = manifest.query(
        "SELECT * FROM results WHERE name = ? ORDER BY suite = 'stages', suite DESC, metric, tag", [name]
    )
    ends = [_ends(manifest, name, metric) for metric in metrics or LOOKED_AT]
    results = results_of(manifest, name)
    return Scores(name, coverage, results, figures, [one for one in ends if one.lowest], comparison)


def _ends(manifest: Manifest, name: str, metric: str) -> Ends:
    rows = manifest.query(
        "SELECT id, prompt, seed, path, arg_max(value, sample_scores.run) AS value FROM sample_scores"
        " JOIN samples ON sample = id WHERE name = ? AND metric = ? GROUP BY ALL HAVING value IS NOT NULL"
        " ORDER BY value, id",
        [name, metric],
    )
    count = min(SHOWN, (len(rows) + 1) // 2)
    return Ends(metric, _pictured(manifest, rows[:count]), _pictured(manifest, rows[len(rows) - count :][::-1]))


def _pictured(manifest: Manifest, rows: list[Row]) -> list[Row]:
    shown = [row | {"picture": filmstrip(manifest.path.parent / row["path"])} for row in rows]
    return [row for row in shown if row["picture"]]
