"""A run beside what the paper published (`published.toml`), with what each was measured under."""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goku_cli.evaluate.result import Figure
from goku_cli.manifest.store import Manifest

TABLES = Path(__file__).with_name("published.toml")
PAPER = "Goku"
"""What the paper's own rows begin with."""


@dataclass(frozen=True)
class Comparison:
    """One table of the paper, in its units, with a run as its last row. nan is what somebody did not measure."""

    key: str
    title: str
    conditions: str
    """Of the published rows."""
    metrics: list[str]
    lower: list[str]
    """Those of which less is better."""
    rows: dict[str, list[float]]
    """Values by name, in the order of `metrics`; the last row is the run."""

    def lines(self) -> tuple[list[str], list[list[Any]]]:
        """Return columns and lines as people read them: the run, the paper's own models, the best of the others."""
        *published, run = self.rows
        own = [name for name in published if name.startswith(PAPER)]
        others = [name for name in published if name not in own]
        lines: list[list[Any]] = []
        for i, metric in enumerate(self.metrics):
            best = min(
                (name for name in others if not math.isnan(self.rows[name][i])),
                key=lambda name: self.rows[name][i] * (1 if metric in self.lower else -1),
                default=None,
            )
            shown = [None if math.isnan(self.rows[name][i]) else self.rows[name][i] for name in [run, *own]]
            lines.append([metric, *shown, f"{self.rows[best][i]:.4g} {best}" if best else ""])
        return ["metric", run, *own, "best of the others"], lines


def published() -> dict[str, dict[str, Any]]:
    """Return the paper's tables by name."""
    return tomllib.loads(TABLES.read_text(encoding="utf-8"))


def beside(figures: list[Figure], run: str) -> list[Comparison]:
    """Return every table of the paper of which a run has a figure, with the metrics that it has.

    A table may have an `own` prefix, that of figures that stand in its places but that its official tool did not make:
    they are a comparison of their own, whose last row says so.
    """
    values = {figure.metric: figure.value for figure in figures if figure.tag == "all"}
    found = []
    for key, table in published().items():
        names: list[str] = table["metrics"]
        found.append(_comparison(key, table, names, values, run))
        if own := table.get("own"):
            renamed = [f"{own}.{name.partition('.')[2]}" for name in names]
            found.append(_comparison(own, table, renamed, values, f"{run}, measured by goku"))
    return [one for one in found if one.metrics]


def _comparison(key: str, table: dict[str, Any], names: list[str], values: dict[str, float], run: str) -> Comparison:
    columns = [i for i, metric in enumerate(names) if metric in values]
    rows = {name: [row[i] for i in columns] for name, row in table["rows"].items()}
    rows[run] = [values[names[i]] * table["scale"] for i in columns]
    lower = [names[table["metrics"].index(metric)] for metric in table.get("lower", [])]
    return Comparison(key, table["title"], table["conditions"], [names[i] for i in columns], lower, rows)


def conditions(manifest: Manifest, name: str) -> str:
    """Return in one line what a set of samples was drawn under, which may not be what published ones were."""
    row = manifest.query(
        "SELECT count(*) AS n, count(*) FILTER (text <> prompt) AS rewritten, list_sort(list(DISTINCT "
        "CASE WHEN frames = 1 THEN format('images of {}x{}', height, width) "
        "ELSE format('{} frames of {}x{} at {:g} fps', frames, height, width, fps) END)) AS kinds "
        "FROM samples WHERE name = ?",
        [name],
    )[0]
    rewritten = f"{row['rewritten']:,} prompts read in other words" if row["rewritten"] else "prompts as they are"
    return "; ".join([f"{row['n']:,} samples", *row["kinds"], rewritten])
