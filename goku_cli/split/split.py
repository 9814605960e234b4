"""Split: every source that was not rejected becomes clips, in one decode; an image is a clip of one frame.

Invariant: a source's clips are replaced together, and what spoke of a clip that is no longer there goes with it.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from goku_cli.errors import GokuError
from goku_cli.manifest.prune import prune
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.ffmpeg import cut_video
from goku_cli.media.frames import read_frames
from goku_cli.recipe import fingerprint
from goku_cli.registry import load
from goku_cli.split.detectors import DETECTORS, ShotCuts
from goku_cli.split.measure import Tiny, measure, thumbnail, tiny
from goku_cli.split.pieces import middle, nearest_sample, pieces, times
from goku_cli.split.settings import SplitSettings
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage

STAGE = "split"
VERSION = 1
SHORT_SIDE = 240
SIMILARITIES = {"layout": "goku_cli.media.layout:layout"}
FACTS = "id, kind, width, height, fps, frames, path"


@dataclass(frozen=True)
class Job:
    """One source to split."""

    source: Row
    """Its FACTS."""
    settings: SplitSettings


def split(
    manifest: Manifest, settings: SplitSettings, *, workers: int = 0, progress: Progress | None = None
) -> Outcome:
    """Split the sources that are new, or were split with other settings.

    Raises:
        GokuError: there is nothing to split, or nothing could be.
    """
    load(settings.detector, DETECTORS, "detector")
    load(settings.similarity, SIMILARITIES, "similarity")
    sources = _sources(manifest)
    items = [Item(source["id"], Job(source, settings)) for source in sources]
    params = fingerprint([VERSION, asdict(settings)])
    outcome = run_stage(
        manifest, STAGE, params, items, split_source, total=len(items), workers=workers, progress=progress
    )
    with manifest.transaction():
        _forget_rejected(manifest)
    prune(manifest)
    return outcome


def write_clips(manifest: Manifest, folder: Path, *, workers: int = 0, progress: Progress | None = None) -> Outcome:
    """Cut every video clip to `folder`/ID.mp4 (H.264) and note it in the clip's row."""
    folder = folder.absolute()
    rows = manifest.query(
        "SELECT clips.*, source_path FROM clips JOIN clip_files USING (id) WHERE kind = 'video' ORDER BY clips.id"
    )
    items = [Item(row["id"], (row, folder / f"{row['id']}.mp4")) for row in rows]
    uncut = [item.id for item in items if item.payload[0]["path"] != str(item.payload[1])]
    with manifest.transaction():
        manifest.execute("DELETE FROM receipts WHERE stage = 'write-clips' AND list_contains(?, item)", [uncut])
    return run_stage(
        manifest, "write-clips", str(folder), items, cut_clip, total=len(items), workers=workers, progress=progress
    )


def split_source(job: Job) -> Rows:
    """Return the clips of one source.

    Raises:
        GokuError: it cannot be read to its end.
    """
    feature = load(job.settings.similarity, SIMILARITIES, "similarity")
    path = Path(job.source["path"])
    if job.source["kind"] == "image":
        ((_, frame),) = read_frames(path, short_side=SHORT_SIDE)
        return _rows([_clip(job.source, 0, 0, 1, "start", tiny(frame), thumbnail(frame))])
    cuts = ShotCuts(job.settings.detector, job.settings.threshold)
    found = measure(read_frames(path, short_side=SHORT_SIDE), cuts, feature)
    clips = []
    for piece in pieces(found, job.settings):
        start_us, end_us = times(found, piece)
        key, shown = found.tiny[middle(piece)], nearest_sample(found, piece).thumbnail
        frames = piece.end - piece.first
        clips.append(_clip(job.source, start_us, end_us, frames, piece.opened_by, key, shown))
    return _rows(clips)


def cut_clip(job: tuple[Row, Path]) -> Rows:
    """Cut one clip to a file of its own."""
    row, target = job
    source = Path(row.pop("source_path"))
    cut_video(source, target, start_us=row["start_us"], end_us=row["end_us"])
    return Rows(insert={"clips": [row | {"path": str(target)}]}, replace={"clips": "id"})


def clip_id(source: str, start_us: int, end_us: int) -> str:
    """Return the id of a clip: the same range of the same content has the same id everywhere."""
    return hashlib.sha256(f"{source}|{start_us}|{end_us}".encode()).hexdigest()[:32]


def _sources(manifest: Manifest) -> list[Row]:
    if not manifest.value("SELECT count(*) FROM sources"):
        raise GokuError(f"{manifest.path} has no sources; bring some in with: goku ingest FOLDER -m ...")
    rows = manifest.query(
        f"SELECT {FACTS} FROM sources JOIN (SELECT source, min(path) AS path FROM source_paths GROUP BY source) "
        "AS files ON files.source = id WHERE rejected IS NULL ORDER BY path"
    )
    if not rows:
        raise GokuError(f"{manifest.path}: the rules rejected every source; see goku show, or goku ingest --rules none")
    return rows


def _forget_rejected(manifest: Manifest) -> None:
    rejected = "(SELECT id FROM sources WHERE rejected IS NOT NULL)"
    manifest.execute(f"DELETE FROM clips WHERE source IN {rejected}")
    manifest.execute(f"DELETE FROM receipts WHERE stage = '{STAGE}' AND item IN {rejected}")


def _clip(
    source: Row, start_us: int, end_us: int, frames: int, opened_by: str, key: Tiny, shown: bytes
) -> Row:  # fmt: skip
    return {
        "id": clip_id(source["id"], start_us, end_us), "source": source["id"], "start_us": start_us,
        "end_us": end_us, "frames": frames, "width": source["width"], "height": source["height"],
        "fps": source["fps"], "opened_by": opened_by, "key_hash": key.hash(), "key_colors": key.colors.ravel().tolist(),
        "thumbnail": shown, "path": None,
    }  # fmt: skip


def _rows(clips: list[Row]) -> Rows:
    return Rows(insert={"clips": clips}, replace={"clips": "source"})
