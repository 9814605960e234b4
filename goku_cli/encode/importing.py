"""WebDataset tars of latents taken into a manifest that knows their clips: what `export.py` wrote, or what others
made of it in that form (`window.py`).

Samples become the rows and shards of a manifest for the moment, beside this one, which is then merged like any other
copy. So nothing is taken in before all of it was read and found good.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goku_cli.encode.caption import text_id
from goku_cli.encode.clip import facts
from goku_cli.encode.codec import latents_folder
from goku_cli.encode.lost import passing_name, remove_orphans
from goku_cli.encode.merge import Merged, merge
from goku_cli.encode.tars import Sample, count_samples, read_samples, tars_at
from goku_cli.encode.window import LOGVAR, MEAN, Encoder, Window
from goku_cli.errors import GokuError
from goku_cli.manifest.shards import checksum, new_shard
from goku_cli.manifest.store import Manifest, Row
from goku_cli.recipe import build, fingerprint
from goku_cli.stage import TENSOR_BYTES, Progress

TWICE = "SELECT min(key) FROM latents GROUP BY clip, start_us, flipped, encoder HAVING count(*) > 1"
CODEC = re.compile(r"linear-[0-9a-f]{16}")


def import_tars(manifest: Manifest, paths: list[Path], progress: Progress) -> Merged:
    """Take in the latents and text states of folders of tars, and of single tars; return what came in.

    Raises:
        UsageError: there are no tars, or a sample's JSON is not of the form.
        GokuError: a tar or a sample is damaged, or a window is there twice; nothing was taken in.
    """
    tars = list({tar.resolve(): tar for path in paths for tar in tars_at(path)}.values())
    progress.start("import", sum(map(count_samples, tars)))
    passing = passing_name(manifest)
    try:
        with Manifest(passing, create=True) as other:
            _fill(manifest, other, tars, progress)
            if (twice := other.value(TWICE)) is not None:
                raise GokuError(f"the tars hold the window {twice} twice; name each once; nothing was taken in")
        return merge(manifest, passing)
    finally:
        remove_orphans(manifest)  # this manifest for the moment, and shards of which nothing was taken


@dataclass(frozen=True)
class Entry:
    """A sample that was found good."""

    window: Window
    moments: list[np.ndarray]
    states: list[np.ndarray]
    """Of each caption."""

    @classmethod
    def read(cls, sample: Sample) -> "Entry":
        """Read a sample and compare what it says of itself with what it is.

        Raises:
            UsageError: its JSON is not of the form.
            GokuError: it is damaged.
        """
        table = sample.json()
        if not isinstance(table, dict):
            raise sample.wrong("has a .json that is no table")
        window = build(Window, table, where=f"{sample.tar}: {sample.key}.json")
        moments = [sample.array(name) for name in (MEAN, LOGVAR) if name == MEAN or name in sample.members]
        states = [sample.array(caption.states) for caption in window.captions]
        if window.key != sample.key:
            raise sample.wrong(f"is the window {window.key} by its .json")
        if len(window.shape) != 4 or any(x.shape != window.shape for x in moments):
            raise sample.wrong(f"has a latent of {list(moments[0].shape)}, not of {list(window.shape)}")
        if any(x.ndim != 2 or len(x) != caption.tokens for x, caption in zip(states, window.captions, strict=True)):
            raise sample.wrong("has text states of another length than its .json says")
        if [checksum(*moments), *map(checksum, states)] != [window.crc, *(caption.crc for caption in window.captions)]:
            raise sample.wrong("holds other numbers than were written (its checksum is another)")
        return cls(window, moments, states)

    def row(self) -> Row:
        """Return its row of `latents`."""
        window = self.window
        about = {name: getattr(window, name) for name in ("clip", "start_us", "flipped", "bucket", "frames", "fps")}
        mean, logvar = self.moments[0], self.moments[1] if len(self.moments) > 1 else None
        return {**about, "encoder": window.encoder.id, "key": window.key, **facts(mean, logvar)}


def _fill(manifest: Manifest, other: Manifest, tars: list[Path], progress: Progress) -> None:
    """Write the rows of all samples into `other`, and the tensors that `manifest` lacks into its shards."""
    encoders: dict[str, tuple[Encoder, Path]] = {}
    held: list[Entry] = []
    size = 0
    for tar in tars:
        for sample in read_samples(tar):
            entry = Entry.read(sample)
            for encoder in (entry.window.encoder, *(caption.encoder for caption in entry.window.captions)):
                if encoders.setdefault(encoder.id, (encoder, tar.parent))[0] != encoder:
                    raise sample.wrong(f"names an encoder {encoder.id} that is another one in other samples")
            held.append(entry)
            size += sum(map(len, sample.members.values()))
            progress.advance()
            if size >= TENSOR_BYTES:
                _flush(manifest, other, held)
                held, size = [], 0
    _flush(manifest, other, held)
    other.insert("encoders", [_encoder_row(encoder, folder) for encoder, folder in encoders.values()])


def _encoder_row(encoder: Encoder, folder: Path) -> Row:
    """Return an encoder's row; its path is the linear codec beside the tars, or a VAE by the name that was typed.

    Raises:
        GokuError: its id is not that of its settings, or its codec's name is none.
    """
    if encoder.kind == "vae" and encoder.id != fingerprint(encoder.settings):
        raise GokuError(f"the encoder {encoder.id} of the tars in {folder} has other settings than its id says")
    if encoder.codec is not None and not CODEC.fullmatch(encoder.codec):
        raise GokuError(f"the encoder {encoder.id} of the tars in {folder} names a codec {encoder.codec!r}")
    place = folder / encoder.codec if encoder.codec else Path(encoder.name)
    return {
        "id": encoder.id, "kind": encoder.kind, "name": encoder.name,
        "path": str(place.absolute()) if encoder.kind == "vae" else None,
        "settings": None if encoder.settings is None else json.dumps(encoder.settings),
    }  # fmt: skip


def _flush(manifest: Manifest, other: Manifest, held: list[Entry]) -> None:
    """Publish the tensors that are new as a shard of each encoder, and write all rows into `other`.

    Rows of clips that are unknown, or encoded already, go there without their tensors: to be counted.
    """
    clips = [entry.window.clip for entry in held]
    known = {row["key"] for row in manifest.matching("SELECT key FROM asked JOIN clips ON id = key", clips)}
    here = {
        (row["clip"], row["encoder"])
        for row in manifest.matching("SELECT DISTINCT clip, encoder FROM latents JOIN asked ON clip = asked.key", clips)
    }
    said = _known_texts([manifest, other], held)
    tensors: dict[str, dict[str, np.ndarray]] = {}
    latents, texts = [entry.row() for entry in held], []
    for entry, row in zip(held, latents, strict=True):
        if row["clip"] not in known:
            continue
        if (row["clip"], row["encoder"]) not in here:
            names = (row["key"], f"{row['key']}.logvar")
            tensors.setdefault(row["encoder"], {}).update(zip(names, entry.moments, strict=False))
        for caption, states in zip(entry.window.captions, entry.states, strict=True):
            place = (text_id(caption.text), caption.encoder.id)
            if place in said:
                continue
            said.add(place)
            tensors.setdefault(place[1], {})[place[0]] = states
            about = {name: getattr(caption, name) for name in ("tokens", "full_tokens", "crc")}
            texts.append({"text_id": place[0], "encoder": place[1], "key": place[0], **about})
    folder, root = latents_folder(manifest), manifest.path.parent
    shards = {encoder: new_shard(folder, root, found) for encoder, found in tensors.items()}
    for row in [*latents, *texts]:
        row["shard"] = shards[row["encoder"]]["path"] if row["encoder"] in shards else None
    with other.transaction():
        for table, rows in (("latents", latents), ("text_states", texts), ("shards", shards.values())):
            other.insert(table, rows)


def _known_texts(manifests: list[Manifest], held: list[Entry]) -> set[tuple[str, str]]:
    """Return the texts that are encoded already, as (text_id, encoder)."""
    ids = [text_id(caption.text) for entry in held for caption in entry.window.captions]
    sql = "SELECT DISTINCT text_id, encoder FROM text_states JOIN asked ON text_id = asked.key"
    return {(row["text_id"], row["encoder"]) for one in manifests for row in one.matching(sql, ids)}
