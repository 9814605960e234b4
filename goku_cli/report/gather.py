"""Data of the report, read from the manifest and from the run folders that it names."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goku_cli.errors import UsageError
from goku_cli.manifest.store import Manifest, Row
from goku_cli.recipe import find, read_toml
from goku_cli.report.charts import Histogram, Plot, histogram, plot
from goku_cli.report.funnel import BALANCED, Step, base_selection, funnel
from goku_cli.report.pictures import jpeg_uri
from goku_cli.report.results import Results, results_of
from goku_cli.report.samples import played
from goku_cli.report.training import curves, lasting, read_lines

SHEET = 24
SAMPLES = 24
MOST_VALUES = 100_000


@dataclass(frozen=True)
class ClassShare:
    """One class before and after balancing, as shares of the whole."""

    primary: str
    subcategory: str
    clips: int
    before: float
    after: float


@dataclass(frozen=True)
class Report:
    """Everything on the page; an empty list means that the section is left out."""

    path: Path
    selection: str | None
    steps: list[Step]
    histograms: list[Histogram]
    classes: list[ClassShare]
    kept: list[Row]
    dropped: list[Row]
    conflicts: list[Row]
    failures: list[Row]
    samples: list[Row]
    results: list[Results]
    plots: list[Plot]
    runs: list[Row]


def gather(manifest: Manifest, name: str | None) -> Report:
    """Read the report of a selection (the newest when none is named)."""
    selection = base_selection(manifest, name)
    return Report(
        path=manifest.path,
        selection=selection,
        steps=funnel(manifest, selection),
        histograms=_histograms(manifest, selection),
        classes=_classes(manifest, selection),
        kept=_sheet(manifest, selection, "IS NULL"),
        dropped=_sheet(manifest, selection, "IS NOT NULL"),
        conflicts=_conflicts(manifest),
        failures=manifest.query("SELECT stage, item, reason FROM failures ORDER BY failed DESC LIMIT 50"),
        samples=_samples(manifest),
        results=results_of(manifest),
        plots=_curves(manifest),
        runs=manifest.query("SELECT id, command, started, status, seconds, counts FROM runs ORDER BY id DESC LIMIT 30"),
    )


def _histograms(manifest: Manifest, selection: str | None) -> list[Histogram]:
    limits = _limits(manifest, selection)
    found = []
    for row in manifest.query("SELECT DISTINCT metric FROM current_scores ORDER BY metric"):
        values = [
            r["value"]
            for r in manifest.query(
                f"SELECT value FROM current_scores WHERE metric = ? AND isfinite(value) USING SAMPLE {MOST_VALUES}",
                [row["metric"]],
            )
        ]
        if values:
            found.append(histogram(row["metric"], values, limits.get(row["metric"], {})))
    return found


def _limits(manifest: Manifest, selection: str | None) -> dict[str, dict[str, float]]:
    """Return {metric: {"min": ..., "max": ...}} for videos from the tier recipe that made the selection."""
    rows = manifest.query(
        "SELECT arguments ->> 'tier' AS tier, arguments ->> 'scorers' AS scorers FROM runs "
        "WHERE command = 'filter' AND status = 'ok' ORDER BY id DESC"
    )
    made = next((row for row in rows if Path(row["tier"]).stem == selection), None)
    try:
        recipe = read_toml(find("tiers", made["tier"])) if made else {}
    except UsageError:  # the recipe was moved since; the figures are still worth showing
        return {}
    scorers = json.loads((made and made["scorers"]) or "{}")
    found = {}
    for metric, table in recipe.get("video", {}).get("scores", {}).items():
        limits = table.get(scorers.get(metric), table)
        found[metric] = {end: float(limits[end]) for end in ("min", "max") if end in limits}
    return found


def _classes(manifest: Manifest, selection: str | None) -> list[ClassShare]:
    if selection is None:
        return []
    rows = manifest.query(
        'SELECT "primary", subcategory, count(*) AS clips, sum(weight) AS drawn FROM tags '
        'JOIN selections USING (clip) WHERE name = ? AND reason IS NULL GROUP BY ALL ORDER BY "primary", clips DESC, 2',
        [selection + BALANCED],
    )
    clips, drawn = sum(row["clips"] for row in rows), sum(row["drawn"] for row in rows)
    return [
        ClassShare(r["primary"], r["subcategory"], r["clips"], r["clips"] / clips, r["drawn"] / (drawn or 1))
        for r in rows
    ]


def _sheet(manifest: Manifest, selection: str | None, reason: str) -> list[Row]:
    """Return some clips with picture and caption, spread over the reasons; by id, so that it stays the same."""
    rows = manifest.query(
        "SELECT clips.id, thumbnail, reason, text AS caption FROM selections JOIN clips ON clips.id = selections.clip "
        "LEFT JOIN captions ON captions.clip = clips.id AND kind = 'merged' "
        f"WHERE name = ? AND reason {reason} "
        "ORDER BY row_number() OVER (PARTITION BY split_part(reason, ' ', 1) ORDER BY clips.id), clips.id "
        f"LIMIT {SHEET}",
        [selection],
    )
    return [row | {"picture": jpeg_uri(row.pop("thumbnail"))} for row in rows]


def _conflicts(manifest: Manifest) -> list[Row]:
    rows = manifest.query(
        "SELECT id, thumbnail, text AS caption, conflict AS reason FROM captions JOIN clips ON id = clip "
        f"WHERE conflict IS NOT NULL ORDER BY id LIMIT {SHEET}"
    )
    return [row | {"picture": jpeg_uri(row.pop("thumbnail"))} for row in rows]


def _samples(manifest: Manifest) -> list[Row]:
    return played(manifest, manifest.query(f"SELECT * FROM samples ORDER BY run DESC, id LIMIT {SAMPLES}"))


def _curves(manifest: Manifest) -> list[Plot]:
    rows = manifest.query("SELECT id, output FROM runs WHERE command = 'train' AND output IS NOT NULL ORDER BY id")
    drawn = []
    for output in dict.fromkeys(row["output"] for row in rows):
        found = curves(lasting(_metrics(manifest, output)))
        lines = {name: points for name, points in found.items() if name in ("loss", "held_out_loss")}
        if (curve := plot(f"{Path(output).parent.name}/{Path(output).name}", lines)) is not None:
            drawn.append(curve)
    return drawn


def _metrics(manifest: Manifest, output: str) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl: `output` is its folder, or a checkpoint inside it."""
    for base in (Path(output), manifest.path.parent / output):
        for folder in (base, base.parent):
            if lines := read_lines(folder / "metrics.jsonl"):
                return lines
    return []
