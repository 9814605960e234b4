"""Measuring clips: one decode feeds every scorer whose figure is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from goku_cli.errors import GokuError
from goku_cli.filter.sampled import sample
from goku_cli.filter.scorers import function, label, resolve
from goku_cli.manifest.store import Manifest, Row
from goku_cli.recipe import fingerprint
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage

STAGE = "filter"


@dataclass(frozen=True)
class Job:
    """One clip and the scorers to run on it."""

    clip: Row
    """Its id, source_path, start_us and end_us."""
    scorers: tuple[str, ...]


def measure(
    manifest: Manifest, scorers: Sequence[str], *, workers: int = 0, progress: Progress | None = None
) -> Outcome:
    """Write the figures that are missing, or that an older version of a scorer gave.

    Raises:
        UsageError: an unknown scorer.
        GokuError: there are no clips.
    """
    names = {label(name): name for name in scorers}
    _forget_stale(manifest, names)
    known: dict[str, set[str]] = {}
    for row in manifest.query("SELECT clip, list(scorer) AS labels FROM scores GROUP BY clip"):
        known[row["clip"]] = set(row["labels"])
    clips = manifest.query(
        "SELECT id, kind, source_path, start_us, end_us FROM clip_files ORDER BY source_path, start_us"
    )
    if not clips:
        raise GokuError(f"{manifest.path} has no clips; make them with: goku split {manifest.path}")
    items = [Item(clip["id"], _job(clip, names, known.get(clip["id"], set()))) for clip in clips]
    params = fingerprint(sorted(names))
    return run_stage(manifest, STAGE, params, items, measure_clip, total=len(items), workers=workers, progress=progress)


def measure_clip(job: Job) -> Rows:
    """Decode one clip and score it.

    Raises:
        GokuError: it cannot be read.
    """
    if not job.scorers:
        return Rows()
    clip = sample(Path(job.clip["source_path"]), job.clip["start_us"], job.clip["end_us"])
    scores = [
        {
            "clip": job.clip["id"],
            "metric": resolve(name).metric,
            "value": float(function(name)(clip)),
            "scorer": label(name),
        }
        for name in job.scorers
    ]
    return Rows(insert={"scores": scores})


def _job(clip: Row, names: dict[str, str], known: set[str]) -> Job:
    missing = [
        name for tag, name in names.items() if tag not in known and (clip["kind"] == "video" or resolve(name).images)
    ]
    return Job(clip, tuple(missing))


def _forget_stale(manifest: Manifest, names: dict[str, str]) -> None:
    """Drop figures of the same metrics by other scorers or versions: a metric has one figure per clip."""
    metrics = [resolve(name).metric for name in names.values()]
    with manifest.transaction():
        manifest.execute(
            "DELETE FROM scores WHERE list_contains(?, metric) AND NOT list_contains(?, scorer)",
            [metrics, list(names)],
        )
