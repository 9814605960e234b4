"""Writing clips: every video clip becomes a file of its own, all clips of a source in one decode."""

from pathlib import Path

from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.ffmpeg import Cut, cut_video
from goku_cli.media.probing.probe import check_unchanged
from goku_cli.recipe import fingerprint
from goku_cli.split.settings import WriteSettings
from goku_cli.stage import TIMEOUT, Item, Outcome, Progress, Rows, run_stage

STAGE = "write-clips"
SOURCES = """
SELECT source, any_value(source_path) AS path, any_value(source_bytes) AS bytes,
    any_value(source_mtime_ns) AS mtime_ns, any_value(fields) AS fields,
    list({'id': id, 'start_us': start_us, 'end_us': end_us, 'frames': frames} ORDER BY start_us) AS clips
FROM clip_files WHERE kind = 'video' GROUP BY source ORDER BY path
"""
UNWRITTEN = """
DELETE FROM receipts WHERE stage = ?
AND item IN (SELECT source FROM clips WHERE path IS DISTINCT FROM ? || id || '.mp4')
"""


def write_clips(
    manifest: Manifest, folder: Path, settings: WriteSettings, *, workers: int = 0, timeout: float = TIMEOUT,
    progress: Progress | None = None,
) -> Outcome:  # fmt: skip
    """Cut every video clip to `folder`/ID.mp4 (H.264) and note it in the clip's row."""
    folder = folder.absolute()
    with manifest.transaction():
        manifest.execute(UNWRITTEN, [STAGE, f"{folder}/"])
    total = manifest.value("SELECT count(DISTINCT source) FROM clip_files WHERE kind = 'video'")
    items = (Item(row["source"], (row, folder, settings)) for row in manifest.stream(SOURCES))
    return run_stage(
        manifest, STAGE, fingerprint([str(folder), vars(settings)]), items, write_source, total=total, workers=workers,
        timeout=timeout, progress=progress, store=lambda results: _complete(manifest, results),
    )  # fmt: skip


def write_source(job: tuple[Row, Path, WriteSettings]) -> Rows:
    """Cut all clips of one source; the rows hold an id and a path, the rest of them is in the manifest."""
    row, folder, settings = job
    source = Path(row["path"])
    check_unchanged(source, row["bytes"], row["mtime_ns"])
    targets = [folder / f"{clip['id']}.mp4" for clip in row["clips"]]
    cuts = [
        Cut(clip["start_us"], clip["end_us"], clip["frames"], target)
        for clip, target in zip(row["clips"], targets, strict=True)
    ]
    cut_video(source, cuts, crf=settings.crf, preset=settings.preset, fields=row["fields"])
    paths = [{"id": clip["id"], "path": str(target)} for clip, target in zip(row["clips"], targets, strict=True)]
    return Rows(insert={"clips": paths}, replace={"clips": "source"})


def _complete(manifest: Manifest, results: list[Rows]) -> None:
    paths = {row["id"]: row["path"] for result in results for row in result.insert["clips"]}
    known = manifest.matching("SELECT clips.* FROM clips JOIN asked ON id = key", list(paths))
    whole = {row["id"]: row | {"path": paths[row["id"]]} for row in known}
    for result in results:
        result.insert["clips"] = [whole[row["id"]] for row in result.insert["clips"]]
