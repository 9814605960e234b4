"""One clip: its windows of frames, and the moments of their latents.

On a CPU a worker process does both. With a GPU the workers decode and crop, frames travel to the parent as uint8, and
the parent encodes them, so that one process holds the weights and the device is never without work.

Shapes: C channels, T frames or latent frames, H x W pixels or latent positions.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from goku_cli.encode.settings import EncodeSettings
from goku_cli.errors import Cause, Fault
from goku_cli.manifest.shards import checksum
from goku_cli.manifest.store import Row
from goku_cli.model.vae.codec import Codec, load_codec
from goku_cli.model.vae.linear_codec import to_unit
from goku_cli.stage import Rows


@dataclass(frozen=True)
class ClipTask:
    """What a worker is told of one clip."""

    clip: Row
    """Of `clip_files`: id, source_path, fields, start_us, end_us."""
    encoder: str
    codec: str
    period: int
    settings: EncodeSettings


def clip_windows(clip: Row, settings: EncodeSettings, period: int, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (start_us within the clip, frames (T, H, W, 3) uint8) of up to `count` windows.

    Raises:
        Fault: as `read_windows`.
    """
    from goku_cli.media.window import read_windows  # latents that are made or merged elsewhere need no media library

    yield from read_windows(
        Path(clip["source_path"]), start_us=clip["start_us"], end_us=clip["end_us"], fps=settings.fps,
        frames=settings.frames, windows=count, bucket=settings.bucket, period=period, enlarge=settings.allow_upscale,
        fields=clip["fields"],
    )  # fmt: skip


def read_clip(task: ClipTask) -> Rows:
    """Return the windows of a clip: frames (T, H, W, 3) uint8 as tensors, and their rows as far as they are known."""
    rows = Rows()
    found = rows.insert.setdefault("latents", [])
    for start_us, frames in clip_windows(task.clip, task.settings, task.period, task.settings.windows):
        key = f"{task.clip['id']}-{start_us}"
        rows.tensors[key] = frames
        found.append({
            "clip": task.clip["id"], "start_us": start_us, "encoder": task.encoder, "frames": len(frames),
            "bucket": f"{frames.shape[1]}x{frames.shape[2]}", "fps": task.settings.fps, "key": key,
        })  # fmt: skip
    return rows


def encode_windows(codec: Codec, device: str, settings: EncodeSettings, read: Rows) -> Rows:
    """Return the rows and tensors of latents, of the frames that `read_clip` returned.

    Raises:
        Fault: INTERNAL, when a latent is not finite in the type in which it is stored.
    """
    rows = Rows()
    found = rows.insert.setdefault("latents", [])
    for row in read.insert["latents"]:
        frames = read.tensors[row["key"]]
        for flipped in (False, True) if settings.flip else (False,):
            key = row["key"] + ("-flipped" if flipped else "")
            mean, logvar = encode_frames(codec, device, settings.dtype, frames[:, :, ::-1] if flipped else frames)
            rows.tensors[key] = mean
            if logvar is not None:
                rows.tensors[f"{key}.logvar"] = logvar
            found.append(row | {"key": key, "flipped": flipped} | facts(mean, logvar))
    return rows


def facts(mean: np.ndarray, logvar: np.ndarray | None) -> Row:
    """Return what a row of `latents` says of its tensors (C, T, H/8, W/8)."""
    exact = mean.astype(np.float64)
    return {
        "shape": list(mean.shape), "logvar": logvar is not None, "crc": checksum(*moments_of(mean, logvar)),
        "sums": exact.sum((1, 2, 3)).tolist(), "squares": np.square(exact).sum((1, 2, 3)).tolist(),
    }  # fmt: skip


def moments_of(mean: np.ndarray, logvar: np.ndarray | None) -> list[np.ndarray]:
    """Return the tensors that there are, in the order of their checksum."""
    return [mean] if logvar is None else [mean, logvar]


def encode_frames(codec: Codec, device: str, dtype: str, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return mean and log-variance (C, T, H/8, W/8) of frames (T, H, W, 3) uint8, as they are stored.

    Raises:
        Fault: INTERNAL, when one of them is not finite.
    """
    moments = codec.moments(to_unit(frames).to(device))
    mean = as_stored(moments.mean_CTHW, dtype)
    return mean, None if moments.logvar_CTHW is None else as_stored(moments.logvar_CTHW, dtype)


def as_stored(x: Tensor, dtype: str, what: str = "its latent holds") -> np.ndarray:
    """Return a tensor as an array of the type in which it is stored.

    Raises:
        Fault: INTERNAL, when something in it is not finite, or does not fit.
    """
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is told below
        array: np.ndarray = x.float().cpu().numpy().astype(dtype)
    if not np.isfinite(array).all():
        hint = "; try --dtype float32" if dtype == "float16" and bool(x.isfinite().all()) else ""
        raise Fault(Cause.INTERNAL, f"{what} NaN or infinity in {dtype}{hint}")
    return array


@functools.cache
def loaded_codec(folder: str, device: str, tile: int) -> Codec:
    """Return a codec that works in tiles of so many pixels (0: on whole frames), loaded once in a process."""
    return load_codec(Path(folder), tile).to(device)


def encode_clip(task: ClipTask) -> Rows:
    """Read and encode one clip on the CPU (runs in a worker process)."""
    torch.set_num_threads(1)
    codec = loaded_codec(task.codec, "cpu", task.settings.tile)
    return encode_windows(codec, "cpu", task.settings, read_clip(task))
