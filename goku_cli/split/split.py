"""Split: every source that was not rejected becomes clips, in one decode; an image is a clip of one frame.

Invariant: a source's clips are replaced together, and what spoke of a clip that is no longer there goes with it.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from goku_cli.errors import Fault, GokuError
from goku_cli.manifest.prune import prune
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.frames import read_frames
from goku_cli.media.layout import cells
from goku_cli.media.probing.probe import check_unchanged
from goku_cli.recipe import fingerprint
from goku_cli.registry import load
from goku_cli.split.detectors import DETECTORS, ShotCuts
from goku_cli.split.measure import SHORT_SIDE, Measured, gray_square, measure, perceptual_hash, thumbnail
from goku_cli.split.pieces import Piece, middle, nearest_sample, pieces, times
from goku_cli.split.settings import SplitSettings
from goku_cli.stage import TIMEOUT, Failure, Item, Outcome, Progress, Rows, run_stage

STAGE = "split"
VERSION = 4
SIMILARITIES = {"layout": "goku_cli.media.layout:layout", "dinov2": "goku_cli.vision.dinov2:token"}
PENDING = """
SELECT id, kind, width, height, fps, fields, path, files.bytes, mtime_ns
FROM sources JOIN source_files AS files ON files.source = id WHERE rejected IS NULL ORDER BY path
"""


@dataclass(frozen=True)
class Job:
    """One source to split."""

    source: Row
    settings: SplitSettings
    threads: int


def split(
    manifest: Manifest, settings: SplitSettings, *, workers: int = 0, timeout: float = TIMEOUT,
    progress: Progress | None = None,
) -> Outcome:  # fmt: skip
    """Split the sources that are new, or were split with other settings.

    Raises:
        GokuError: there is nothing to split, or nothing could be.
    """
    load(settings.detector, DETECTORS, "detector")
    load(settings.similarity, SIMILARITIES, "similarity")
    total = _count(manifest)
    threads = max(1, (os.cpu_count() or 1) // total)
    outcome = run_stage(
        manifest, STAGE, fingerprint([VERSION, asdict(settings)]), _items(manifest, settings, threads), split_source,
        total=total, workers=workers, timeout=timeout, progress=progress,
    )  # fmt: skip
    with manifest.transaction():
        _forget_rejected(manifest)
    prune(manifest)
    return outcome


def split_source(job: Job) -> Rows:
    """Return the clips of one source.

    Raises:
        Fault: it is not what was ingested, or nothing of it can be read.
    """
    source, path = job.source, Path(job.source["path"])
    check_unchanged(path, source["bytes"], source["mtime_ns"])
    if source["kind"] == "image":
        return _rows([_still(source, path)])
    found = _measured(job, path, job.threads)
    if found.lost and job.threads > 1:  # later stages read with one thread; several notice damage later than one
        found = _measured(job, path, 1)
    found = found.parted(int(job.settings.max_seconds * 1e6))
    return _rows([_clip(source, found, piece) for piece in pieces(found, job.settings)], found.lost)


def clip_id(source: Row, start_us: int, end_us: int) -> str:
    """Return the id of a clip: the same range of the same content has the same id everywhere.

    Frames that are made whole by a measured order are other content: nothing that was said of their combs stays.
    """
    fields = f"|{source['fields']}" if source["fields"] else ""
    return hashlib.sha256(f"{source['id']}|{start_us}|{end_us}{fields}".encode()).hexdigest()[:32]


def _measured(job: Job, path: Path, threads: int) -> Measured:
    cuts = ShotCuts(job.settings.detector, job.settings.threshold, job.settings.frame_skip)
    return measure(path, cuts, load(job.settings.similarity, SIMILARITIES, "similarity"), threads, job.source["fields"])


def _count(manifest: Manifest) -> int:
    """Return how many sources there are to split."""
    if not manifest.value("SELECT count(*) FROM sources"):
        raise GokuError(f"{manifest.path} has no sources; bring some in with: goku ingest FOLDER -m ...")
    total = int(manifest.value("SELECT count(*) FROM sources WHERE rejected IS NULL"))
    if not total:
        raise GokuError(f"{manifest.path}: the rules rejected every source; see goku show, or goku ingest --rules none")
    return total


def _items(manifest: Manifest, settings: SplitSettings, threads: int) -> Iterator[Item]:
    for source in manifest.stream(PENDING):
        yield Item(source["id"], Job(source, settings, threads), source["fields"] or "")


def _forget_rejected(manifest: Manifest) -> None:
    rejected = "(SELECT id FROM sources WHERE rejected IS NOT NULL)"
    manifest.execute(f"DELETE FROM clips WHERE source IN {rejected}")
    manifest.execute(f"DELETE FROM receipts WHERE stage = '{STAGE}' AND item IN {rejected}")


def _clip(source: Row, found: Measured, piece: Piece) -> Row:
    start_us, end_us = times(found, piece)
    width, height = found.size(piece.first)
    key = middle(piece)
    return {
        "id": clip_id(source, start_us, end_us), "source": source["id"], "start_us": start_us,
        "end_us": end_us, "frames": piece.end - piece.first, "width": width, "height": height,
        "fps": source["fps"], "opened_by": piece.opened_by, "key_hash": perceptual_hash(found.gray[key]),
        "key_colors": found.colors[key].ravel().tolist(), "thumbnail": nearest_sample(found, piece).thumbnail,
    }  # fmt: skip


def _still(source: Row, path: Path) -> Row:
    ((_, frame),) = read_frames(path, short_side=SHORT_SIDE)
    return {
        "id": clip_id(source, 0, 0), "source": source["id"], "start_us": 0, "end_us": 0, "frames": 1,
        "width": source["width"], "height": source["height"], "fps": source["fps"], "opened_by": "start",
        "key_hash": perceptual_hash(gray_square(frame)), "key_colors": cells(frame).ravel().tolist(),
        "thumbnail": thumbnail(frame),
    }  # fmt: skip


def _rows(clips: list[Row], lost: Fault | None = None) -> Rows:
    partial = Failure.of(lost) if lost else None
    return Rows(insert={"clips": clips}, replace={"clips": "source"}, partial=partial)
