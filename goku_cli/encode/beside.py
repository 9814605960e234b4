"""Looking at latents: a clip's windows, decoded, beside the frames that they were made of."""

from pathlib import Path

import numpy as np
import torch

from goku_cli.encode.clip import clip_windows, loaded_codec
from goku_cli.encode.verify import settings_of
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.shards import ShardReader
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.ffmpeg import write_image, write_video
from goku_cli.model.vae.linear_codec import to_frames


def write_beside(manifest: Manifest, clip: Row, path: Path) -> int:
    """Write a clip's windows one after another, left as they are and right as its newest encoder's latents decode.

    Args:
        clip: a row of `clip_files`.

    Returns the number of windows.

    Raises:
        UsageError: the clip is not encoded, or is an image and `path` is no PNG, or the other way round.
        GokuError: its file is gone or was changed.
    """
    rows = manifest.query(
        "SELECT latents.*, path AS codec, settings FROM latents JOIN encoders ON id = encoder"
        " WHERE clip = ? AND NOT flipped ORDER BY encoders.run DESC, encoder, start_us",
        [clip["id"]],
    )
    if not rows:
        raise UsageError(f"clip {clip['id']} has no latents; make them with: goku encode-latents {manifest.path}")
    suffix = ".png" if clip["kind"] == "image" else ".mp4"
    if path.suffix.lower() != suffix:
        raise UsageError(f"clip {clip['id']} is a {clip['kind']}; name a {suffix} file, e.g. --decode beside{suffix}")
    rows = [row for row in rows if row["encoder"] == rows[0]["encoder"]]
    settings = settings_of(rows[0])
    codec = loaded_codec(rows[0]["codec"], "cpu", settings.tile)
    windows = dict(clip_windows(clip, settings, codec.period, settings.windows))
    if missing := {row["start_us"] for row in rows} - windows.keys():
        raise GokuError(f"{clip['source_path']} has no window at {min(missing)} us any more; ingest it again")
    reader = ShardReader(manifest.path.parent)
    frames: list[np.ndarray] = []
    for row in rows:
        z = torch.from_numpy(reader.read(row["shard"], row["key"])).float()
        frames.extend(np.concatenate([windows[row["start_us"]], to_frames(codec.decode(z))], axis=2))
    if suffix == ".png":
        write_image(path, frames[0])
    else:
        write_video(path, frames, fps=settings.fps)
    return len(rows)
