"""Verification of latents: bytes of shards against their checksums, windows against their files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from goku_cli.encode.clip import clip_windows, encode_frames, loaded_codec, moments_of
from goku_cli.encode.settings import EncodeSettings
from goku_cli.errors import Cause, Fault, UsageError
from goku_cli.manifest.shards import ShardReader, checksum
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.probing.probe import check_unchanged
from goku_cli.model.vae.codec import Codec, codec_fingerprint
from goku_cli.publish import sha256

TOLERANCE = {"float16": 1 / 256, "float32": 1e-3}
"""Largest difference, of the largest value of a window: what another device, library or rounding may do."""
# In the order of a hash, so that the windows are as good as random and the same each time.
SAMPLE = """
SELECT latents.*, encoders.path AS codec, encoders.settings, source_path, clip_files.start_us AS clip_start_us, end_us,
    source_bytes, source_mtime_ns, fields
FROM (SELECT * FROM latents ORDER BY md5(key || encoder) LIMIT ?) AS latents
JOIN encoders ON encoders.id = encoder JOIN clip_files ON clip_files.id = clip ORDER BY encoder, clip, key
"""


@dataclass
class Verified:
    """What was found."""

    windows: int = 0
    shards: int = 0
    worst: float = 0.0
    """Largest difference between a stored value and the one encoded again."""
    broken: list[str] = field(default_factory=list)


def settings_of(encoder: Row) -> EncodeSettings:
    """Return the settings with which an encoder's latents were made, from its row."""
    made_with = json.loads(encoder["settings"])
    del made_with["codec_sha256"]
    return EncodeSettings(**made_with)


def verify_latents(manifest: Manifest, count: int) -> Verified:
    """Compare all shards with their sums, then encode up to `count` windows again and compare those."""
    found = Verified()
    damaged = set()
    for shard in manifest.query("SELECT path, sha256 FROM shards ORDER BY path"):
        path = manifest.path.parent / shard["path"]
        found.shards += 1
        if path.exists() and sha256(path) != shard["sha256"]:
            damaged.add(shard["path"])
            found.broken.append(f"{path} is not what was written; remove it and run goku encode-latents again")
    rows = [row for row in manifest.query(SAMPLE, [count]) if row["shard"] not in damaged]
    reader = ShardReader(manifest.path.parent)
    for _, group in groupby(rows, key=lambda row: (row["encoder"], row["clip"])):
        found.broken += _clip(reader, list(group), found)
    return found


def _clip(reader: ShardReader, rows: list[Row], found: Verified) -> Iterator[str]:
    """Yield a line for each window of one clip that is off, or one when the clip cannot be read."""
    first = rows[0]
    settings, codec = settings_of(first), Path(first["codec"])
    clip = first | {"start_us": first["clip_start_us"]}
    try:
        if codec_fingerprint(codec) != json.loads(first["settings"])["codec_sha256"]:
            raise Fault(Cause.CHANGED, f"{codec} is not the VAE that encoded it")
        model = loaded_codec(str(codec), "cpu", settings.tile)
        windows = dict(clip_windows(clip, settings, model.period, settings.windows))
        for row in rows:
            stored = read_moments(reader, row)
            found.windows += 1
            if checksum(*stored) != row["crc"]:
                yield f"latent {row['key']} in {row['shard']} is not what was written (its checksum is another)"
                continue
            difference, largest = _difference(stored, row, windows[row["start_us"]], model, settings)
            found.worst = max(found.worst, difference)
            if not difference <= TOLERANCE[settings.dtype] * largest:
                if row["source_bytes"] is not None:
                    check_unchanged(Path(row["source_path"]), row["source_bytes"], row["source_mtime_ns"])
                yield f"latent {row['key']} is off by {difference:.3g}, of at most {largest:.3g}"
    except (Fault, UsageError) as error:
        yield f"clip {first['clip']}: {error}"
    except KeyError:
        yield f"clip {first['clip']}: {first['source_path']} has no window at {first['start_us']} us any more"


def read_moments(reader: ShardReader, row: Row) -> list[np.ndarray]:
    """Return a window's mean and, when it has one, its log-variance (C, T, H/8, W/8), as they are stored."""
    keys = [row["key"], f"{row['key']}.logvar"] if row["logvar"] else [row["key"]]
    return [reader.read(row["shard"], key) for key in keys]


def _difference(
    stored: list[np.ndarray], row: Row, frames: np.ndarray, codec: Codec, settings: EncodeSettings
) -> tuple[float, float]:
    """Return the largest difference, and the largest value, of a window's mean and log-variance."""
    frames = frames[:, :, ::-1] if row["flipped"] else frames
    again = moments_of(*encode_frames(codec, "cpu", settings.dtype, frames))
    if [x.shape for x in stored] != [x.shape for x in again]:
        return float("inf"), 0.0
    pairs = [(old.astype(float), new.astype(float)) for old, new in zip(stored, again, strict=True)]
    return max(float(np.abs(old - new).max()) for old, new in pairs), max(float(np.abs(old).max()) for old, _ in pairs)
