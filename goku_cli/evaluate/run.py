"""`goku eval` of a set of samples: its figures, and of how many samples each of them speaks.

A sample whose file is gone or does not decode is expected and not scored, and every figure says so. A benchmark's
total is given only when every prompt of its list has its sample scored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goku_cli.errors import UsageError
from goku_cli.evaluate.bootstrap import mean_figure
from goku_cli.evaluate.clips.metrics import METRICS, title
from goku_cli.evaluate.clips.motion_agreement import motion_agreement
from goku_cli.evaluate.result import Figure
from goku_cli.evaluate.sample_scores import Measured, Wanted, measure
from goku_cli.evaluate.shapes import scores as shapes
from goku_cli.evaluate.shapes import truth
from goku_cli.evaluate.shapes.stages import eval_stages
from goku_cli.manifest.store import Manifest, Row
from goku_cli.shapes.caption import Metadata, parse_caption
from goku_cli.shapes.prompts import benchmark_prompts
from goku_cli.stage import Progress

HELD_OUT = "held_out_loss"
LISTED = 5
"""Missing prompts that are named."""


@dataclass(frozen=True)
class Suite:
    """Figures that belong together, and what they were counted over."""

    name: str
    figures: list[Figure]
    expected: int
    found: int
    scored: int
    notes: list[str] = field(default_factory=list)
    """What the reader must know, a line each."""

    @property
    def coverage(self) -> str:
        """How much of what was expected the figures rest on."""
        return f"{self.scored} scored of {self.found} found of {self.expected} expected"


def samples_named(manifest: Manifest, name: str | None) -> tuple[str, list[Row]]:
    """Return the name and rows of a set of samples: the one named, or the newest.

    Raises:
        UsageError: there is none.
    """
    names = [row["name"] for row in manifest.query("SELECT name FROM samples GROUP BY name ORDER BY max(run) DESC")]
    if not names or (name and name not in names):
        known = f"has {', '.join(names)}" if names else "has none; draw some with: goku sample CHECKPOINT"
        raise UsageError(f"no samples {name or ''} in {manifest.path}, which {known}".replace("  ", " "))
    name = name or names[0]
    return name, manifest.query("SELECT * FROM samples WHERE name = ? ORDER BY id", [name])


def eval_samples(
    manifest: Manifest, name: str, rows: list[Row], *, metrics: Sequence[str] = (), bench_shapes: bool = False,
    workers: int = 1, progress: Progress,
) -> list[Suite]:  # fmt: skip
    """Measure a set of samples by clip metrics (all of the table when none is named).

    With `bench_shapes` they are judged as shapes too, and the curation stages that made the training data by its truth.

    Raises:
        UsageError: an unknown metric.
        GokuError: nothing could be scored.
    """
    names = tuple(metrics) or tuple(METRICS)
    asked = [_asked(row) if bench_shapes else None for row in rows]
    pairs = zip(rows, asked, shapes.controls(asked), strict=True)
    wanted = [Wanted(row, names, one, other) for row, one, other in pairs]
    found = measure(manifest, name, wanted, workers=workers, progress=progress)
    suites = [_video(rows, names, found), _flow(Path(rows[0]["checkpoint"]), len(rows), found)]
    if bench_shapes:
        known = truth.read_truth(manifest)
        suites += [
            _shapes(manifest, wanted, found, progress),
            Suite("stages", eval_stages(manifest, known), len(known), len(known), len(known)),
        ]
    return [suite for suite in suites if suite.figures or suite.notes]


def _video(rows: list[Row], names: Sequence[str], found: Measured) -> Suite:
    decodes = [float(row["id"] in found.scores) for row in rows]
    figures = [mean_figure("video.decodes", decodes)]
    for metric in names:
        known = title(metric)
        values = [value for scores in found.scores.values() if (value := scores.get(known)) is not None]
        if values:
            own = metric in METRICS
            figures.append(mean_figure(known, values, implementation=Figure.implementation if own else known))
    figures += motion_agreement(rows, found.scores)
    return Suite("video", figures, len(rows), found.found, len(found.scores))


def _flow(checkpoint: Path, expected: int, found: Measured) -> Suite:
    """Return the held-out flow loss that a checkpoint was saved with: in all, by time, by kind, and untrained."""
    path = checkpoint / "config.json"
    kept: dict[str, float] = json.loads(path.read_text()).get("figures", {}) if path.exists() else {}
    figures = []
    for key, value in kept.items():
        if key.startswith(HELD_OUT):
            tag = key.removeprefix(HELD_OUT).removeprefix("_") or "all"
            figures.append(Figure(f"flow.{HELD_OUT}", value, 1, tag))
    return Suite("flow", figures, expected, found.found, len(found.scores))


def _asked(row: Row) -> Metadata | None:
    """Return what a sample should show, or None for a prompt outside the grammar."""
    return parse_caption(row["prompt"])


def _seen(row: Row) -> bool:
    """Say whether a sample's prompt names only pairs that may be trained on, as far as its benchmark says."""
    noted = json.loads(row["metadata"] or "null")
    return bool(noted.get("seen", True)) if isinstance(noted, dict) else True


def _shapes(manifest: Manifest, wanted: list[Wanted], found: Measured, progress: Progress) -> Suite:
    """Return the shapes world's figures with their controls.

    They are over the tasks of which prompts were drawn. There is no total while a sample of a prompt of theirs, or all
    of them, have no score.
    """
    from goku_cli.evaluate.shapes.ceiling import eval_ceiling  # brings torch, which nothing else here needs

    judged = [
        (one, {name: value for name, value in scores.items() if name.startswith("shapes.")})
        for one in wanted
        if one.asked is not None and (scores := found.scores.get(one.row["id"])) is not None
    ]
    figures = shapes.sample_figures((one.asked, _seen(one.row), scores) for one, scores in judged if one.asked)
    drawn = {one.row["prompt"] for one in wanted}
    lost = {one.row["prompt"] for one in wanted if one.row["id"] not in found.scores}
    tasks = {one.asked["tag"]: None for one in wanted if one.asked}
    listed = [row for row in benchmark_prompts() if row["tag"] in tasks]
    missing = [row for row in listed if row["prompt"] not in drawn or row["prompt"] in lost]
    never = sum(row["prompt"] not in drawn for row in missing)
    withheld = {"all"} | {"seen" if row["seen"] else "unseen" for row in missing} if missing else set()
    notes = [_missing_line(missing, wanted[0].row["checkpoint"])] if missing else []
    if len(listed) < len(benchmark_prompts()):
        notes.append(f"shapes: {len(listed)} prompts of the tasks {', '.join(tasks)}; the others were not asked for")
    ceiling = eval_ceiling(manifest, wanted, found.scores, progress)
    kept = [figure for figure in [*figures, *ceiling.figures] if figure.tag not in withheld]
    return Suite("shapes", kept, len(wanted) + never, found.found, len(judged), notes + ceiling.notes)


def _missing_line(missing: list[dict[str, Any]], checkpoint: str) -> str:
    some = ", ".join(f'"{row["prompt"]}"' for row in missing[:LISTED])
    more = ", ..." if len(missing) > LISTED else ""
    return (
        f"shapes: {len(missing)} prompts of the benchmark lack a scored sample, so no total is given: {some}{more};"
        f" draw them with: goku sample {checkpoint} --bench shapes"
    )
