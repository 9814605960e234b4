"""encode-latents: clips to latents and captions to text states, in safetensors shards beside the manifest.

Two stages of the shared loop. Items of the first are clips, of the second distinct captions; each has a receipt
per encoder, so several encoders live side by side and only what is new is encoded.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from goku_cli.encode.caption import TOGETHER, encode_texts, selected_texts, text_encoder_row, text_id
from goku_cli.encode.clip import ClipTask, encode_clip, encode_windows, loaded_codec, read_clip
from goku_cli.encode.codec import codec_folder, latents_folder, vae_encoder
from goku_cli.encode.lost import stage_name
from goku_cli.encode.settings import EncodeSettings, Slice
from goku_cli.errors import UsageError
from goku_cli.manifest.shards import new_shard
from goku_cli.manifest.store import Manifest, Row
from goku_cli.model.text.encoders import TextEncoder, load_text_encoder
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage


def selected_clips(manifest: Manifest, selection: str) -> list[Row]:
    """Return the kept clips of a selection with the file and time range of each."""
    return manifest.query(
        "SELECT clip_files.id, source_path, fields, start_us, end_us FROM clip_files JOIN selections"
        " ON clip = clip_files.id WHERE name = ? AND reason IS NULL AND weight > 0 ORDER BY clip_files.id",
        [selection],
    )


def encode_latents(
    manifest: Manifest, selection: str, settings: EncodeSettings, *, workers: int, progress: Progress,
    part: Slice | None = None, device: str | None = None,
) -> tuple[Outcome, Outcome]:  # fmt: skip
    """Encode the kept clips of a selection and their captions, or one machine's part of them.

    Args:
        device: where this process encodes what the workers decode; None takes the GPU when there is one, and else
            leaves all of it to the workers.

    Returns how both stages went.

    Raises:
        UsageError: the selection is empty or has no captions, or there is no such VAE.
        GokuError: no caption could be encoded.
    """
    part = part or Slice()
    clips = selected_clips(manifest, selection)
    if not clips:
        raise UsageError(f"selection {selection} keeps no clips; see goku show {manifest.path}#{selection}")
    texts = selected_texts(manifest, selection)
    if not texts:
        raise UsageError(f"selection {selection} has no captions yet; run: goku caption {manifest.path}#{selection}")
    folder = codec_folder(manifest, clips, settings)  # fitted on all clips, so that every machine has the same
    encoder = vae_encoder(folder, settings)
    _insert_once(manifest, encoder)
    named = text_encoder_row(settings.text, settings.states)
    _insert_once(manifest, named)
    device = device or ("cuda" if torch.cuda.is_available() else None)
    store = functools.partial(_store, latents_folder(manifest), manifest.path.parent)
    # Captions first: a text encoder that is not there is told before hours of clips. And every part has the empty
    # text, without which nothing can be trained.
    mine = sorted(["", *(text for text in texts if part.holds(text_id(text)))], key=len)
    said = run_stage(
        manifest, stage_name("text", named["id"]), named["id"], [Item(text_id(text), text) for text in mine],
        _text_work(settings, named["id"], device), total=len(mine), progress=progress, store=store, together=TOGETHER,
    )  # fmt: skip
    said.check("encode-latents", strict=False)
    period = loaded_codec(str(folder), "cpu", settings.tile).period
    tasks = [ClipTask(row, encoder["id"], str(folder), period, settings) for row in clips if part.holds(row["id"])]
    refine = None
    if device:
        codec = loaded_codec(str(folder), device, settings.tile)
        refine = functools.partial(encode_windows, codec, device, settings)
    videos = run_stage(
        manifest, stage_name("vae", encoder["id"]), encoder["id"], [Item(task.clip["id"], task) for task in tasks],
        encode_clip if refine is None else read_clip, total=len(tasks), workers=workers, progress=progress,
        refine=refine, store=store,
    )  # fmt: skip
    return videos, said


def _text_work(settings: EncodeSettings, encoder: str, device: str | None) -> Callable[[list[str]], list[Rows]]:
    """Return what encodes captions here, in one process: on the GPU in bfloat16 or, without one, on all cores; the
    model is loaded when there is something to encode."""

    @functools.cache
    def model() -> TextEncoder:
        found = load_text_encoder(settings.text)
        if device:
            found.model.to(device, torch.bfloat16 if device.startswith("cuda") else None)
        return found

    return lambda texts: encode_texts(model(), encoder, settings.states, texts)


def remarks(manifest: Manifest, settings: EncodeSettings) -> list[str]:
    """Return what should be known of the rows that this run wrote: what is shorter than asked, or was cut."""
    short = manifest.value(
        "SELECT count(DISTINCT clip) FROM latents JOIN clips ON clip = id"
        " WHERE latents.run = ? AND latents.frames < ? AND clips.end_us > clips.start_us",
        [manifest.run, settings.frames],
    )
    cut = "FROM text_states WHERE run = ? AND full_tokens > tokens"
    count, tokens = (manifest.value(f"SELECT {what} {cut}", [manifest.run]) for what in ("count(*)", "max(tokens)"))
    lines = []
    if short:
        lines.append(
            f"{short} clips are shorter than {settings.frames} frames; their windows are as long as they allow"
        )
    if count:
        lines.append(f"{count} captions were cut at {tokens} tokens (the query that lists them is in manifests/README)")
    return lines


def _insert_once(manifest: Manifest, row: Row) -> None:
    with manifest.transaction():
        if not manifest.value("SELECT count(*) FROM encoders WHERE id = ?", [row["id"]]):
            manifest.insert("encoders", [row])


def _store(folder: Path, root: Path, batch: list[Rows]) -> None:
    """Publish the tensors of a batch as one shard and write its name into their rows."""
    tensors: dict[str, Any] = {}
    for rows in batch:
        tensors |= rows.tensors
    if not tensors:
        return
    shard = new_shard(folder, root, tensors)
    for rows in batch:
        for found in rows.insert.values():
            for row in found:
                row["shard"] = shard["path"]
    batch[0].insert["shards"] = [shard]
