"""Codec reconstruction: windows that no training saw, encoded, decoded, and compared with their frames."""

import functools
import json
from pathlib import Path

import torch

from goku_cli.errors import Cause, Fault, UsageError
from goku_cli.evaluate.bootstrap import mean_figure
from goku_cli.evaluate.run import Suite
from goku_cli.manifest.held_out import mark_held_out
from goku_cli.manifest.shards import ShardReader
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.window import read_windows
from goku_cli.model.vae.codec import Codec, load_codec
from goku_cli.model.vae.linear_codec import to_frames
from goku_cli.sizes import parse_size
from goku_cli.stage import Item, Progress, Rows, run_stage
from goku_cli.vision.distances import likeness

STAGE = "eval"
MOST = 64
"""Windows that are decoded."""
LOSSLESS = 100.0
"""dB given for a window that is exactly the same, which has no finite one."""
# By hash, so that the windows are as good as random and the same each time.
_WINDOWS = """
SELECT latents.*, encoders.path AS codec, encoders.settings, source_path, clip_files.kind, fields,
    clip_files.start_us AS clip_start_us, end_us, clip_files.id IN (SELECT clip FROM held_out) AS held_out
FROM latents JOIN encoders ON encoders.id = encoder JOIN clip_files ON clip_files.id = clip
WHERE NOT flipped AND encoder = (SELECT encoder FROM latents ORDER BY run DESC, encoder LIMIT 1)
ORDER BY md5(clip || key)
"""


def eval_vae(manifest: Manifest, progress: Progress) -> tuple[str, Suite]:
    """Return the newest encoder's id, with PSNR (dB) and SSIM of up to 64 held-out windows: all, images and videos.

    What is decoded is the stored mean, which is what a flow model learns to draw. Where no clip is held out, all are.

    Raises:
        UsageError: nothing is encoded.
        GokuError: not one window could be read.
    """
    mark_held_out(manifest)
    rows = manifest.query(_WINDOWS)
    if not rows:
        raise UsageError(f"{manifest.path} has no latents; make them with: goku encode-latents {manifest.path}")
    chosen = ([row for row in rows if row["held_out"]] or rows)[:MOST]
    found: dict[str, dict[str, list[float]]] = {"psnr": {}, "ssim": {}}
    items = (Item(row["key"], row) for row in chosen)
    work = functools.partial(_window, ShardReader(manifest.path.parent), found)
    outcome = run_stage(
        manifest, STAGE, f"run {manifest.run}", items, work, total=len(chosen), workers=1, progress=progress
    )
    outcome.check("eval", strict=False)
    figures = [
        mean_figure(f"vae.{name}", values, tag) for name, by_tag in found.items() for tag, values in by_tag.items()
    ]
    return chosen[0]["encoder"], Suite("vae", figures, len(chosen), len(chosen), outcome.done)


def _window(reader: ShardReader, found: dict[str, dict[str, list[float]]], row: Row) -> Rows:
    """Decode one window and note how near it is to its frames."""
    settings, codec = json.loads(row["settings"]), _codec(row["codec"])
    windows = dict(
        read_windows(
            Path(row["source_path"]), start_us=row["clip_start_us"], end_us=row["end_us"], fps=settings["fps"],
            frames=settings["frames"], windows=settings["windows"], bucket=parse_size(settings["size"]),
            period=codec.period, enlarge=settings["allow_upscale"], fields=row["fields"],
        )
    )  # fmt: skip
    if row["start_us"] not in windows:
        raise Fault(Cause.CHANGED, f"{row['source_path']} has no window at {row['start_us']} us any more")
    z_CTHW = torch.from_numpy(reader.read(row["shard"], row["key"])).float()
    with torch.no_grad():
        restored = to_frames(codec.decode(z_CTHW))
    psnr, ssim = likeness(restored, windows[row["start_us"]])
    for name, value in (("psnr", min(psnr, LOSSLESS)), ("ssim", ssim)):
        for tag in ("all", f"{row['kind']}s"):
            found[name].setdefault(tag, []).append(value)
    return Rows()


@functools.cache
def _codec(folder: str) -> Codec:
    return load_codec(Path(folder))
