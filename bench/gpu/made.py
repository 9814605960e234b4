"""Manifests that are ready to train on, made without a media file: rows, captions, latents and text states."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from goku_cli.encode.caption import text_encoder_row, text_id
from goku_cli.encode.clip import facts
from goku_cli.encode.codec import vae_encoder
from goku_cli.encode.settings import EncodeSettings
from goku_cli.manifest.shards import checksum, new_shard
from goku_cli.manifest.store import Manifest
from goku_cli.model.vae.linear_codec import LinearCodec

NAME = "made"
"""Of the selection."""
TOGETHER = 2_000
"""Latents in a shard."""


class Sample(NamedTuple):
    """A clip that is a latent and a caption."""

    latent_CTHW: np.ndarray
    caption: str


def make(
    path: Path, samples: Iterable[Sample], codec: LinearCodec, settings: EncodeSettings, text: str,
    states: dict[str, np.ndarray],
) -> Path:  # fmt: skip
    """Write a manifest with its latents beside it.

    Args:
        samples: clips, in float16 or float32.
        codec: saved beside the manifest; what is drawn is decoded by it.
        settings: what the latents are said to be made with.
        text: name of the text encoder.
        states: of every caption and of the empty text, (tokens, width).
    """
    folder = path.parent / f"{path.stem}.latents"
    (folder / "linear").mkdir(parents=True)
    codec.save(folder / "linear")
    with Manifest(path, create=True) as manifest:
        manifest.begin_run("made", {})
        encoder = vae_encoder((folder / "linear").absolute(), settings)
        reader = text_encoder_row(text, settings.states)
        manifest.insert("encoders", [encoder, reader])
        held: list[tuple[int, Sample]] = []
        for number, sample in enumerate(samples):
            held.append((number, sample))
            if len(held) == TOGETHER:
                _insert(manifest, folder, encoder["id"], settings, held)
                held = []
        _insert(manifest, folder, encoder["id"], settings, held)
        shard = new_shard(folder, path.parent, {text_id(said): found for said, found in states.items()})
        manifest.insert("shards", [shard])
        manifest.insert("text_states", [
            {
                "text_id": text_id(said), "encoder": reader["id"], "key": text_id(said), "shard": shard["path"],
                "tokens": len(found), "full_tokens": len(found), "crc": checksum(found),
            }
            for said, found in states.items()
        ])  # fmt: skip
    return path


def _insert(
    manifest: Manifest, folder: Path, encoder: str, settings: EncodeSettings, held: list[tuple[int, Sample]]
) -> None:
    if not held:
        return
    keys = [f"{(number + 1) * 2654435761 % 2**64:032x}" for number, _ in held]
    tensors = {f"{key}-0": sample.latent_CTHW for key, (_, sample) in zip(keys, held, strict=True)}
    shard = new_shard(folder, manifest.path.parent, tensors)
    manifest.insert("shards", [shard])
    frames = [1 + 4 * (sample.latent_CTHW.shape[1] - 1) for _, sample in held]
    tables: dict[str, list[dict[str, object]]] = {}
    for key, count, (_, sample) in zip(keys, frames, held, strict=True):
        end = round(1e6 * count / settings.fps) if count > 1 else 0
        row = {
            "sources": {"id": key, "kind": "video" if count > 1 else "image"},
            "source_paths": {"source": key, "path": key, "item": key},
            "clips": {"id": key, "source": key, "start_us": 0, "end_us": end},
            "selections": {"name": NAME, "clip": key, "weight": 1.0},
            "captions": {"clip": key, "kind": "merged", "text": sample.caption},
            "latents": {
                "clip": key, "start_us": 0, "flipped": False, "encoder": encoder, "bucket": settings.size,
                "frames": count, "fps": settings.fps, "key": f"{key}-0", "shard": shard["path"],
                **facts(sample.latent_CTHW, None),
            },
        }  # fmt: skip
        for table, values in row.items():
            tables.setdefault(table, []).append(values)
    for table, rows in tables.items():
        manifest.insert(table, rows)
