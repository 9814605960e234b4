"""Scores of single samples: each file is read once, and scores are stored, so that only new samples are scored.

Invariant: a row of `sample_scores` is of the sample as it was last drawn. A sample whose file is gone or does not
decode becomes a row in `failures` and has no scores in this run; the others go on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goku_cli.errors import Cause, Fault, GokuError
from goku_cli.evaluate.clips import metrics
from goku_cli.evaluate.result import OWN
from goku_cli.evaluate.shapes import scores as shapes
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.sample_files import read_shown
from goku_cli.publish import sha256
from goku_cli.shapes.caption import Metadata
from goku_cli.stage import Item, Progress, Rows, run_stage

STAGE = "eval"
DETECTOR_SIDE = 96

Scores = dict[str, dict[str, float | None]]
"""By sample and metric; None where a metric does not apply."""


@dataclass(frozen=True)
class Wanted:
    """What is to be measured of one sample."""

    row: Row
    """Of `samples`."""
    metrics: tuple[str, ...] = ()
    asked: Metadata | None = None
    """What the shapes benchmark wants to see, when it is asked for."""
    other: Metadata | None = None
    """Another prompt, by which it should score badly."""

    @property
    def titles(self) -> set[str]:
        """What it will be known by."""
        return {metrics.title(name) for name in self.metrics} | ({"shapes.strict"} if self.asked else set())


@dataclass(frozen=True)
class Measured:
    """What is known of a set of samples."""

    scores: Scores
    """Of the samples that could be read."""
    found: int
    """Samples whose file is there."""
    failed: int


def measure(manifest: Manifest, name: str, wanted: list[Wanted], *, workers: int, progress: Progress) -> Measured:
    """Measure what no earlier run has, in `workers` processes.

    Raises:
        UsageError: an unknown metric.
        GokuError: not one sample could be scored.
    """
    for metric in {metric for one in wanted for metric in one.metrics}:
        metrics.metric(metric)
    manifest.execute("DELETE FROM sample_scores USING samples WHERE sample = id AND sample_scores.run < samples.run")
    known, root = kept(manifest, name), manifest.path.parent
    there = {one.row["id"] for one in wanted if (root / one.row["path"]).exists()}
    pending = [o for o in wanted if o.row["id"] not in there or o.titles - known.get(o.row["id"], {}).keys()]
    items = (Item(one.row["id"], (root, _missing(one, known))) for one in pending)
    outcome = run_stage(
        manifest, STAGE, f"run {manifest.run}", items, score, total=len(pending), workers=workers, progress=progress
    )  # fmt: skip
    failed = _failed(manifest, name) if outcome.failed else set()
    known = {sample: scores for sample, scores in kept(manifest, name).items() if sample in there - failed}
    if not known:
        reason = next(iter(outcome.example.values()), "there are none")
        raise GokuError(f"eval: not one of {len(wanted)} samples could be scored, mostly like this: {reason}")
    return Measured(known, len(there), outcome.failed)


def kept(manifest: Manifest, name: str) -> Scores:
    """Return the scores of a set of samples that were measured here."""
    found: Scores = {}
    rows = manifest.query(
        "SELECT sample, metric, value FROM sample_scores JOIN samples ON sample = id"
        " WHERE name = ? AND implementation IN (?, metric) ORDER BY sample_scores.run",
        [name, OWN],
    )
    for row in rows:
        found.setdefault(row["sample"], {})[row["metric"]] = row["value"]
    return found


def score(payload: tuple[Path, Wanted]) -> Rows:
    """Read one sample and score it (runs in a worker process)."""
    root, wanted = payload
    row = wanted.row
    frames = read_sample(root / row["path"], row["sha256"])
    scores = metrics.scores(wanted.metrics, frames, row)
    if wanted.asked is not None:
        scores |= shapes.score_sample(native(frames), wanted.asked, wanted.other, row["fps"])
    own = {metrics.title(name) for name in metrics.METRICS}
    return Rows(insert={"sample_scores": [
        {"sample": row["id"], "metric": title, "value": value,
         "implementation": OWN if title in own or title.startswith("shapes.") else title}
        for title, value in scores.items()
    ]})  # fmt: skip


def read_sample(path: Path, digest: str | None) -> np.ndarray:
    """Return a sample's frames (T, H, W, 3) uint8.

    Raises:
        Fault: the file is gone, is not the one that was drawn, or does not decode.
    """
    if not path.exists():
        raise Fault(Cause.VANISHED, f"{path} is gone; draw it again with the same goku sample")
    if digest and sha256(path) != digest:
        raise Fault(Cause.CHANGED, f"{path} is not what was drawn; remove it and draw it again")
    return read_shown(path)


def native(frames: np.ndarray) -> np.ndarray:
    """Undo the enlargement of tiny samples by whole pixels: the detector's patience is for small frames."""
    step = max(1, min(frames.shape[1:3]) // DETECTOR_SIDE)
    return frames[:, step // 2 :: step, step // 2 :: step]


def _missing(one: Wanted, known: Scores) -> Wanted:
    """Return what of a sample has no score yet."""
    has = known.get(one.row["id"], {}).keys()
    lacking = tuple(name for name in one.metrics if metrics.title(name) not in has)
    judged = "shapes.strict" in has
    return Wanted(one.row, lacking, None if judged else one.asked, None if judged else one.other)


def _failed(manifest: Manifest, name: str) -> set[str]:
    rows: Iterator[Row] = manifest.stream(
        "SELECT item FROM failures JOIN samples ON item = id"
        " WHERE stage = ? AND name = ? AND failures.run IS NOT DISTINCT FROM ?",
        [STAGE, name, manifest.run],
    )
    return {row["item"] for row in rows}
