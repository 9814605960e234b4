"""Latents for other programs: a selection's windows as WebDataset tars, with an index.

goku encode-latents manifests/my.duckdb#480p --export latents-480p

    latents-480p/1a2b3c4d5e6f7081-000000.tar    about 1 GB of the windows of one VAE encoder, named by its id
                 linear-0123456789abcdef/       the VAE, when it is the linear one, which nobody else has
                 index.json                     encoders with their channels' mean and deviation, counts, sums

What a sample holds is in `window.py`. A clip's windows lie in one tar. Equal manifests give equal bytes.
"""

import glob
import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from webdataset import TarWriter

from goku_cli.encode.verify import read_moments
from goku_cli.encode.window import CHOSEN, INDEX, INFO, LOGVAR, MEAN, Caption, Encoder, Window
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.shards import ShardReader, check_shards, checksum
from goku_cli.manifest.store import Manifest, Row
from goku_cli.publish import publish_folder, sha256
from goku_cli.stage import Progress

TAR_BYTES = 1 << 30
"""A tar is closed after the clip with which it has so many."""
# The texts of a clip are those that training may draw (its chosen caption, with and without what was appended to it)
# and the empty one.
WINDOWS = """
SELECT latents.*, weight, said.chosen, said.conflict, said.texts FROM latents JOIN selections USING (clip) LEFT JOIN (
    SELECT clip, max(chosen) AS chosen, max(conflict) AS conflict, list({
        'text': text, 'encoder': t.encoder, 'shard': t.shard, 'key': t.key, 'tokens': t.tokens,
        'full_tokens': t.full_tokens, 'crc': t.crc
    } ORDER BY length(text) DESC, text, t.encoder) AS texts
    FROM (
        SELECT DISTINCT merged.clip, said.text, merged.text AS chosen, merged.conflict FROM captions AS merged
        JOIN (SELECT clip, text FROM captions UNION SELECT clip, '' FROM captions) AS said USING (clip)
        WHERE merged.kind = 'merged' AND starts_with(merged.text, said.text)
    ) JOIN text_states AS t ON t.text_id = left(sha256(text), 32) GROUP BY clip
) AS said USING (clip)
WHERE name = ? AND reason IS NULL AND weight > 0 ORDER BY latents.encoder, clip, start_us, flipped
"""


@dataclass
class Tally:
    """What was written of one encoder."""

    encoder: Encoder
    windows: int = 0
    values: int = 0
    """Per channel."""
    sums: Any = 0.0
    squares: Any = 0.0

    def add(self, row: Row) -> None:
        """Count a row of `latents`."""
        self.windows += 1
        self.values += int(np.prod(row["shape"][1:]))
        self.sums, self.squares = self.sums + np.array(row["sums"]), self.squares + np.array(row["squares"])

    def about(self) -> dict[str, Any]:
        """Return what the index says of it."""
        mean = self.sums / self.values
        std = np.sqrt(np.maximum(self.squares / self.values - mean**2, 0))
        return asdict(self.encoder) | {
            "windows": self.windows, "statistics": {"mean": mean.tolist(), "std": std.tolist()},
        }  # fmt: skip


def export(manifest: Manifest, selection: str, folder: Path, progress: Progress) -> str:
    """Write a selection's latents and text states of all encoders as tars into a new folder; return what to say.

    The folder gets its name when all of it is there. When it holds this very export, nothing is written.

    Raises:
        UsageError: there are no latents, or the folder holds something else.
        GokuError: a shard is missing or damaged, or the disk is full.
    """
    known = {row["id"]: _encoder(row) for row in manifest.query("SELECT * FROM encoders")}
    digest, count, shards = _survey(manifest, selection, known)
    if not count:
        raise UsageError(f"{manifest.path}#{selection} has no latents yet; make them with: goku encode-latents")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        if not _holds(folder, digest):
            raise UsageError(f"{folder} holds something else; name a new folder, or remove it")
        return f"{folder} holds these {count} windows already"
    check_shards(manifest, shards)
    for torn in folder.parent.glob(f".{glob.escape(folder.name)}.tmp-*"):  # what a killed export left
        shutil.rmtree(torn)
    progress.start("export", count)
    try:
        with publish_folder(folder) as temporary:
            index = _write(manifest, selection, known, temporary, progress)
            about = {"selection": selection, "windows": count, "fingerprint": digest, **index}
            (temporary / INDEX).write_text(json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise GokuError(f"{folder} could not be written ({error}); free space and run again") from error
    return f"{count} windows, {len(index['tars'])} tar(s), in {folder}"


def _holds(folder: Path, digest: str) -> bool:
    """Say whether a folder is the export of this digest, with all of its tars."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        sizes = {name: about["bytes"] for name, about in index["tars"].items()}
        there = all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return there and index.get("fingerprint") == digest


def _survey(manifest: Manifest, selection: str, known: dict[str, Encoder]) -> tuple[str, int, set[str]]:
    """Return a digest of all that would be written, how many windows that is, and the shards that they lie in."""
    digest, count, shards = hashlib.sha256(), 0, set[str]()
    for row in manifest.stream(WINDOWS, [selection]):
        digest.update(json.dumps([asdict(_window(row, known)), row["chosen"]]).encode())
        shards.update([row["shard"], *(text["shard"] for text in row["texts"] or [])])
        count += 1
    return digest.hexdigest(), count, shards


def _encoder(row: Row) -> Encoder:
    settings = json.loads(row["settings"]) if row["settings"] else None
    codec = Path(row["path"]).name if row["kind"] == "vae" and row["name"] == "linear" else None
    return Encoder(row["id"], row["kind"], row["name"], settings, codec)


def _window(row: Row, known: dict[str, Encoder]) -> Window:
    captions = [
        Caption(text["text"], f"text-{i}.npy", text["tokens"], text["full_tokens"], text["crc"], known[text["encoder"]])
        for i, text in enumerate(row["texts"] or [])
    ]
    return Window(
        clip=row["clip"], start_us=row["start_us"], flipped=row["flipped"], bucket=row["bucket"], frames=row["frames"],
        fps=row["fps"], shape=tuple(row["shape"]), crc=row["crc"], weight=row["weight"], conflict=row["conflict"],
        encoder=known[row["encoder"]], captions=tuple(captions),
    )  # fmt: skip


class Tars:
    """The tar that is being written, and what is known of those before it. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: dict[str, dict[str, Any]] = {}
        self._encoder, self._number, self._windows = "", 0, 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def turn(self, encoder: str) -> None:
        """Begin another tar if this one is full, or of another encoder; to be called before each clip."""
        if self._file is not None and encoder == self._encoder and self._file.tell() < TAR_BYTES:
            return
        self.close()
        self._number = self._number + 1 if encoder == self._encoder else 0
        self._encoder, self._windows = encoder, 0
        self._file = (self.folder / f"{encoder}-{self._number:06d}.tar").open("wb")
        self._tar = TarWriter(self._file, mtime=0, user="", group="", mode=0o644)

    def write(self, key: str, members: dict[str, Any]) -> None:
        """Append a sample."""
        self._tar.write({"__key__": key, **members})
        self._windows += 1

    def close(self) -> None:
        """Finish the tar."""
        if self._file is None:
            return
        self._tar.close()
        self._file.close()
        path, self._file = Path(self._file.name), None
        self.done[path.name] = {"windows": self._windows, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _write(
    manifest: Manifest, selection: str, known: dict[str, Encoder], folder: Path, progress: Progress
) -> dict[str, Any]:
    """Write the tars and the codecs beside them; return what the index says of them."""
    reader, tallies = ShardReader(manifest.path.parent), dict[str, Tally]()
    texts: dict[str, Encoder] = {}
    with Tars(folder) as tars:
        rows = manifest.stream(WINDOWS, [selection])
        for (encoder, _), windows in groupby(rows, key=lambda row: (row["encoder"], row["clip"])):
            tars.turn(encoder)
            if encoder not in tallies:
                tallies[encoder] = Tally(known[encoder])
                _bring_codec(manifest, known[encoder], folder)
            for row in windows:
                window = _window(row, known)
                tars.write(window.key, _members(window, row, reader))
                tallies[encoder].add(row)
                texts |= {caption.encoder.id: caption.encoder for caption in window.captions}
                progress.advance()
    encoders = [*(tally.about() for tally in tallies.values()), *(asdict(texts[name]) for name in sorted(texts))]
    return {"encoders": encoders, "tars": tars.done}


def _bring_codec(manifest: Manifest, encoder: Encoder, folder: Path) -> None:
    """Copy a linear VAE beside the tars.

    Raises:
        GokuError: it is gone.
    """
    if encoder.codec is None:
        return
    source = Path(manifest.value("SELECT path FROM encoders WHERE id = ?", [encoder.id]))
    if not source.is_dir():
        raise GokuError(f"the VAE {source}, without which nobody can decode these latents, is gone; restore it")
    shutil.copytree(source, folder / encoder.codec, copy_function=shutil.copyfile, dirs_exist_ok=True)


def _members(window: Window, row: Row, reader: ShardReader) -> dict[str, Any]:
    """Return what a sample's tar members hold, by their names without its key.

    Raises:
        GokuError: a tensor is not what was written.
    """
    moments = read_moments(reader, row)
    states = [reader.read(text["shard"], text["key"]) for text in row["texts"] or []]
    sums = [checksum(*moments), *map(checksum, states)]
    if sums != [window.crc, *(caption.crc for caption in window.captions)]:
        raise GokuError(
            f"the tensors of {window.key} are not what was written; look with: goku show --verify --latents"
        )
    members = {caption.states: x for caption, x in zip(window.captions, states, strict=True)}
    members |= dict(zip((MEAN, LOGVAR), moments, strict=False))
    return members | ({CHOSEN: row["chosen"]} if row["chosen"] is not None else {}) | {INFO: asdict(window)}
