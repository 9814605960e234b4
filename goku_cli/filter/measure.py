"""Measuring clips: one decode feeds every scorer whose figure is missing.

Workers decode, score what needs no model, and hand the frames of the others to the command's own process, where each
model is loaded once and gets many clips at a time.
"""

import functools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from goku_cli.errors import GokuError
from goku_cli.filter.sampled import SampledClip, sample
from goku_cli.filter.scorers import function, label, resolve
from goku_cli.manifest.bounds import quoted
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.probing.probe import check_unchanged
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage

STAGE = "filter"
CLIP = "clip"
"""Key under which a result carries its frames to the models."""


@dataclass(frozen=True)
class Job:
    """One clip and the scorers to run on it."""

    clip: Row
    """Its id, source_path, start_us, end_us, and what its file was when it was ingested."""
    scorers: tuple[str, ...]


def measure(
    manifest: Manifest,
    scorers: Mapping[str, str],
    *,
    workers: int = 0,
    timeout: float,
    progress: Progress | None = None,
) -> Outcome:
    """Write the figures that are missing of the scorers in use (metric -> scorer).

    Raises:
        UsageError: a scorer cannot be loaded.
        GokuError: there are no clips, or a model's weights are missing.
    """
    names = list(scorers.values())
    total = manifest.value("SELECT count(*) FROM clips")
    if not total:
        raise GokuError(f"{manifest.path} has no clips; make them with: goku split {manifest.path}")
    models = {name: function(name)() for name in names if resolve(name).batched}
    jobs = _jobs(manifest, names)
    waiting = manifest.value(f"SELECT count(*) FROM ({_missing(names)})")
    outcome = run_stage(
        manifest, STAGE, "measure@2", jobs, measure_clip, total=waiting, workers=workers, timeout=timeout,
        progress=progress, store=functools.partial(_score_batch, models),
    )  # fmt: skip
    outcome.skipped += total - waiting
    return outcome


def measure_clip(job: Job) -> Rows:
    """Decode one clip, score it, and pass on the frames that models need.

    Raises:
        Fault: it cannot be read.
    """
    path = Path(job.clip["source_path"])
    check_unchanged(path, job.clip["source_bytes"], job.clip["source_mtime_ns"])
    clip = sample(path, job.clip["start_us"], job.clip["end_us"], job.clip["fields"])
    here = [name for name in job.scorers if not resolve(name).batched]
    rows = Rows(insert={"scores": [_score(job.clip["id"], name, function(name)(clip)) for name in here]})
    if models := tuple(name for name in job.scorers if resolve(name).batched):
        frames = clip.by_seconds() if all(resolve(name).seconds for name in models) else clip
        rows.tensors[CLIP] = (job.clip["id"], frames, models)
    return rows


def _score_batch(models: Mapping[str, Callable[[Sequence[SampledClip]], list[float]]], results: list[Rows]) -> None:
    """Let each model look at all clips that wait for it, and add its figures to their rows."""
    waiting = [(rows, *rows.tensors.pop(CLIP)) for rows in results if CLIP in rows.tensors]
    for name, model in models.items():
        due = [(rows, clip, frames) for rows, clip, frames, asked in waiting if name in asked]
        for (rows, clip, _), value in zip(due, model([frames for _, _, frames in due]), strict=True):
            rows.insert["scores"].append(_score(clip, name, value))


def _score(clip: str, name: str, value: float) -> Row:
    return {"clip": clip, "metric": resolve(name).metric, "value": float(value), "scorer": label(name)}


def _missing(names: Sequence[str]) -> str:
    """Return SQL for the clips that lack a figure; bit i of `due` says that names[i] is one of those.

    Bits, not lists of names: ten million clips fit into memory as numbers.
    """
    cases = " ".join(f"WHEN {quoted(label(name))} THEN {1 << bit}" for bit, name in enumerate(names))
    every = (1 << len(names)) - 1
    images = sum(1 << bit for bit, name in enumerate(names) if resolve(name).images)
    return f"""
SELECT clip_files.id, source_path, source_bytes, source_mtime_ns, fields, start_us, end_us,
    CASE kind WHEN 'image' THEN {images} ELSE {every} END & ~coalesce(have, 0) AS due
FROM clip_files LEFT JOIN (SELECT clip, bit_or(CASE scorer {cases} ELSE 0 END) AS have FROM scores GROUP BY clip)
ON clip = id WHERE due <> 0 ORDER BY source_path, start_us
"""


def _jobs(manifest: Manifest, names: Sequence[str]) -> Iterator[Item]:
    once = f" {uuid.uuid4().hex}"  # what is due is known from the scores; no receipt holds it back
    for row in manifest.stream(_missing(names)):
        due = row.pop("due")
        yield Item(row["id"], Job(row, tuple(name for bit, name in enumerate(names) if due >> bit & 1)), once)
