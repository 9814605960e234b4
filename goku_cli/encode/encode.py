"""encode-latents: clips to latents and captions to text states, in safetensors shards beside the manifest.

Two stages of the shared loop. Items of the first are clips, of the second distinct captions; each has a receipt
per encoder, so several encoders live side by side and only what is new is encoded.
"""

import contextlib
import functools
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goku_cli.encode.settings import EncodeSettings
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.shards import write_shard
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.window import read_windows
from goku_cli.model.codec import Codec, codec_fingerprint, load_codec
from goku_cli.model.linear_codec import LinearCodec, to_unit
from goku_cli.model.text import TextEncoder, load_text_encoder, text_fingerprint
from goku_cli.publish import publish_folder
from goku_cli.recipe import fingerprint
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage

FIT_CLIPS = 256
"""Clips that the linear codec is fitted on (these are decoded a second time when they are encoded)."""


def selected_clips(manifest: Manifest, selection: str) -> list[Row]:
    """Return the kept clips of a selection with the file and time range of each."""
    return manifest.query(
        "SELECT clip_files.id, source_path, start_us, end_us FROM clip_files JOIN selections ON clip = clip_files.id"
        " WHERE name = ? AND reason IS NULL AND weight > 0 ORDER BY clip_files.id",
        [selection],
    )


def latents_folder(manifest: Manifest) -> Path:
    """Return the folder of the manifest's shards and codecs."""
    return manifest.path.with_suffix(".latents")


def encode_latents(
    manifest: Manifest, selection: str, settings: EncodeSettings, *, workers: int, progress: Progress
) -> tuple[Outcome, Outcome]:
    """Encode the kept clips of a selection and their captions; return how both stages went.

    Raises:
        UsageError: the selection is empty, or has no captions.
    """
    clips = selected_clips(manifest, selection)
    if not clips:
        raise UsageError(f"selection {selection} keeps no clips; see goku show {manifest.path}#{selection}")
    codec = _codec_folder(manifest, clips, settings)
    encoder = _note_vae(manifest, codec, settings)
    items = [Item(row["id"], (row, str(codec), encoder, settings)) for row in clips]
    store = functools.partial(_store, latents_folder(manifest), manifest.path.parent)
    videos = run_stage(
        manifest, f"encode-latents/{encoder}", encoder, items, encode_clip,
        total=len(items), workers=workers, progress=progress, store=store,
    )  # fmt: skip
    texts = _encode_captions(manifest, selection, settings.text, workers, progress, store)
    return videos, texts


def _codec_folder(manifest: Manifest, clips: list[Row], settings: EncodeSettings) -> Path:
    """Return the codec's folder; the linear one is fitted when this manifest has none of this kind."""
    if settings.vae != "linear":
        load_codec(Path(settings.vae))
        return Path(settings.vae).absolute()
    name = fingerprint([settings.channels, settings.bucket, settings.fps, settings.frames])
    folder = latents_folder(manifest).absolute() / f"linear-{name}"
    if not folder.exists():
        step = max(1, len(clips) // FIT_CLIPS)
        codec = LinearCodec.fit(_readable(clips[::step], settings), settings.channels)
        with publish_folder(folder) as temporary:
            codec.save(temporary)
    return folder


def _readable(clips: list[Row], settings: EncodeSettings) -> Iterator[torch.Tensor]:
    """Yield one window of each clip that can be read; the others fail in their own turn, with a row."""
    for row in clips:
        with contextlib.suppress(GokuError):
            for _, frames in _windows(row, settings, 1):
                yield to_unit(frames)


def _windows(row: Row, settings: EncodeSettings, count: int) -> list[tuple[int, np.ndarray]]:
    path = Path(row["source_path"])
    try:
        return list(
            read_windows(
                path, start_us=row["start_us"], end_us=row["end_us"], fps=settings.fps,
                frames=settings.frames, windows=count, bucket=settings.bucket,
            )
        )  # fmt: skip
    except FileNotFoundError as error:
        raise GokuError(f"{path} is gone") from error


def _note_vae(manifest: Manifest, codec: Path, settings: EncodeSettings) -> str:
    """Insert the encoder's row when it is new, and return its fingerprint."""
    made_with = {name: value for name, value in asdict(settings).items() if name not in ("vae", "text", "channels")}
    encoder = fingerprint([codec_fingerprint(codec), made_with])
    row = {
        "id": encoder,
        "kind": "vae",
        "name": settings.vae,
        "path": str(codec),
        "settings": json.dumps(made_with),
    }
    _insert_once(manifest, row)
    return encoder


def _insert_once(manifest: Manifest, row: Row) -> None:
    with manifest.transaction():
        if not manifest.value("SELECT count(*) FROM encoders WHERE id = ?", [row["id"]]):
            manifest.insert("encoders", [row])


@functools.cache
def _codec(folder: str) -> Codec:
    torch.set_num_threads(1)
    return load_codec(Path(folder))


def encode_clip(payload: tuple[Row, str, str, EncodeSettings]) -> Rows:
    """Encode the windows of one clip (runs in a worker process)."""
    row, codec, encoder, settings = payload
    rows = Rows()
    for start_us, frames in _windows(row, settings, settings.windows):
        latent = _codec(codec).encode(to_unit(frames)).numpy()
        key = f"{row['id']}-{start_us}"
        height, width = frames.shape[1:3]
        rows.tensors[key] = latent
        rows.insert.setdefault("latents", []).append({
            "clip": row["id"], "start_us": start_us, "encoder": encoder, "bucket": f"{height}x{width}",
            "frames": len(frames), "fps": settings.fps, "key": key, "shape": list(latent.shape),
        })  # fmt: skip
    return rows


def _encode_captions(
    manifest: Manifest, selection: str, name: str, workers: int, progress: Progress,
    store: Callable[[list[Rows]], None],
) -> Outcome:  # fmt: skip
    texts = [row["text"] for row in manifest.query(
        "SELECT DISTINCT said.text FROM captions AS said JOIN captions AS merged USING (clip) "
        "JOIN selections USING (clip) WHERE name = ? AND reason IS NULL AND merged.kind = 'merged' "
        "AND starts_with(merged.text, said.text) ORDER BY 1",  # what training may draw: with and without the score
        [selection],
    )]  # fmt: skip
    if not texts:
        raise UsageError(f"selection {selection} has no captions yet; run: goku caption {manifest.path}#{selection}")
    encoder = fingerprint(text_fingerprint(name))
    _insert_once(manifest, {"id": encoder, "kind": "text", "name": name})
    items = [Item(text_id(text), (text, name, encoder)) for text in ["", *texts]]
    return run_stage(
        manifest,
        f"encode-text/{encoder}",
        encoder,
        items,
        encode_text,
        total=len(items),
        workers=workers,
        progress=progress,
        store=store,
    )


def text_id(text: str) -> str:
    """Return the id of a caption's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.cache
def _text_encoder(name: str) -> TextEncoder:
    torch.set_num_threads(1)
    return load_text_encoder(name)


def encode_text(payload: tuple[str, str, str]) -> Rows:
    """Encode one caption (runs in a worker process)."""
    text, name, encoder = payload
    states = _text_encoder(name).encode(text).numpy()
    key = text_id(text)
    row = {"text_id": key, "encoder": encoder, "key": key, "tokens": len(states)}
    return Rows(insert={"text_states": [row]}, tensors={key: states})


def _store(folder: Path, root: Path, batch: list[Rows]) -> None:
    """Publish the tensors of a batch as one shard and write its name into their rows."""
    tensors: dict[str, Any] = {}
    for rows in batch:
        tensors |= rows.tensors
    if not tensors:
        return
    path = folder / f"{uuid.uuid4().hex[:12]}.safetensors"
    write_shard(path, tensors)
    for rows in batch:
        for found in rows.insert.values():
            for row in found:
                row["shard"] = str(path.relative_to(root))
