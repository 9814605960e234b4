"""Scores of a set of samples for a page: every metric, and the samples that it ranks highest and lowest."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from goku_cli.manifest.store import Manifest, Row
from goku_cli.report.results import Results, results_of
from goku_cli.report.samples import played, samples_of

SHOWN = 12
"""Samples at either end of a metric."""
LISTED = 96
"""Samples of a set that are shown in order."""
LOOKED_AT = ("shapes.strict", "video.sharpness")
"""Metrics whose ends are shown when none is asked for."""


@dataclass(frozen=True)
class Ends:
    """The samples at both ends of a metric: rows with prompt, seed, value and player."""

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
    samples: list[Row] = field(default_factory=list)
    """The set itself, with players, when that was asked for."""


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


def gather_samples(manifest: Manifest, name: str) -> Scores:
    """Read a set of samples to look at it, whether it was scored or not."""
    rows = samples_of(manifest, name)
    first = f"the first {LISTED} of " if len(rows) > LISTED else ""
    lines = [f"{first}{len(rows):,} samples of {rows[0]['checkpoint']}"]
    return replace(gather_scores(manifest, name, lines), samples=played(manifest, rows[:LISTED]))


def _ends(manifest: Manifest, name: str, metric: str) -> Ends:
    rows = manifest.query(
        "SELECT id, name, prompt, seed, path, fps, arg_max(value, sample_scores.run) AS value FROM sample_scores"
        " JOIN samples ON sample = id WHERE name = ? AND metric = ? GROUP BY ALL HAVING value IS NOT NULL"
        " ORDER BY value, id",
        [name, metric],
    )
    count = min(SHOWN, (len(rows) + 1) // 2)
    return Ends(metric, played(manifest, rows[:count]), played(manifest, rows[len(rows) - count :][::-1]))
