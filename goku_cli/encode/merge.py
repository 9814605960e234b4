"""Merging of another copy of a manifest: rows, receipts, and the shards that they refer to.

Several machines encode a slice each, with a copy of the manifest. A window or a caption that is here already is left
as it is, so merging the same copy again, or two copies that did the same slice, changes nothing.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from goku_cli.encode.codec import latents_folder
from goku_cli.encode.lost import SPEAKING
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.beside import beside
from goku_cli.manifest.bounds import quoted
from goku_cli.manifest.store import Manifest, Row
from goku_cli.publish import publish, publish_folder, sha256

# Rows of the other manifest that this one lacks, and whose clip it knows.
NEW = {
    "latents": "FROM other.latents AS theirs WHERE clip IN (SELECT id FROM clips) AND NOT EXISTS ("
    "SELECT 1 FROM latents AS ours WHERE ours.clip = theirs.clip AND ours.encoder = theirs.encoder)",
    "text_states": "FROM other.text_states AS theirs WHERE NOT EXISTS ("
    "SELECT 1 FROM text_states AS ours WHERE ours.text_id = theirs.text_id AND ours.encoder = theirs.encoder)",
}
STRANGE = "SELECT count(DISTINCT clip) FROM other.latents WHERE clip NOT IN (SELECT id FROM clips)"
# The checksum stands for the tensors: two machines that encode the same window to other bits are told apart by it.
CONFLICTS = """
SELECT count(*) FROM other.latents AS theirs JOIN latents AS ours USING (clip, start_us, flipped, encoder)
WHERE ours.crc IS DISTINCT FROM theirs.crc
"""


@dataclass
class Merged:
    """What came in."""

    latents: int
    text_states: int
    shards: int
    conflicts: int
    """Windows that both have, with other values; those that were here are kept."""
    strange: int
    """Clips that this manifest does not know; they are left out."""

    def __str__(self) -> str:
        text = f"{self.latents} latents and {self.text_states} captions came in, with {self.shards} shards"
        if self.conflicts:
            text += f"; {self.conflicts} windows are here with other values, which are kept"
        if self.strange:
            text += f"; {self.strange} clips are not in this manifest and are left out"
        return text


def merge(manifest: Manifest, path: Path) -> Merged:
    """Take in the latents and text states of the manifest at `path`; return what came in.

    Raises:
        UsageError: it is this manifest, or none.
        GokuError: one of its shards is missing or damaged; nothing was taken in.
    """
    if path.exists() and path.samefile(manifest.path):
        raise UsageError(f"{path} is the manifest itself; name the copy that another machine worked on")
    Manifest(path, read_only=True).close()  # says what is wrong with it, if anything
    manifest.execute(f"ATTACH {quoted(str(path))} AS other (READ_ONLY)")
    try:
        return _take_in(manifest, path)
    finally:
        manifest.execute("DETACH other")


def _take_in(manifest: Manifest, path: Path) -> Merged:
    conflicts, strange = manifest.value(CONFLICTS), manifest.value(STRANGE)
    wanted = " UNION ".join(f"SELECT shard {new}" for new in NEW.values())
    shards = manifest.query(f"SELECT * FROM other.shards WHERE path IN ({wanted}) ORDER BY path")
    names = {row["path"]: _bring_shard(manifest, path.parent / row["path"], row) for row in shards}
    _bring_encoders(manifest, path)
    counts = {table: manifest.value(f"SELECT count(*) {new}") for table, new in NEW.items()}
    with manifest.transaction():
        for table, item, stage in SPEAKING:  # before the rows, with which they would no longer be new
            manifest.execute(
                "INSERT INTO receipts (stage, item, params, run) SELECT DISTINCT"
                f" '{stage}/' || theirs.encoder, theirs.{item}, theirs.encoder, ?::BIGINT {NEW[table]}",
                [manifest.run],
            )
        for table, new in NEW.items():
            rows = manifest.query(f"SELECT theirs.* {new}")
            manifest.insert(table, [row | {"shard": names[row["shard"]], "run": manifest.run} for row in rows])
        known = {row["path"] for row in manifest.query("SELECT path FROM shards")}
        came = [{**row, "path": names[row["path"]], "run": manifest.run} for row in shards]
        manifest.insert("shards", [row for row in came if row["path"] not in known])
    return Merged(counts["latents"], counts["text_states"], len(shards), conflicts, strange)


def _bring_shard(manifest: Manifest, source: Path, row: Row) -> str:
    """Return the name of a shard within this manifest's folder, to which it is copied if it lies elsewhere."""
    if not source.exists() or sha256(source) != row["sha256"]:
        what = "is not what was written" if source.exists() else "is gone"
        raise GokuError(f"shard {source} {what}; encode again there, then merge")
    root = manifest.path.parent
    if source.parent.parent.resolve() == root.resolve():
        return str(row["path"])
    target = latents_folder(manifest) / source.name
    if not target.exists():
        with publish(target) as temporary:
            shutil.copyfile(source, temporary)
    return str(target.relative_to(root))


def _bring_encoders(manifest: Manifest, path: Path) -> None:
    """Insert the encoders that are new here, each with its codec if that is a linear one; bring it also when it is not
    where our row says."""
    known = {row["id"]: Path(row["path"] or "") for row in manifest.query("SELECT id, path FROM encoders")}
    for row in manifest.query("SELECT * FROM other.encoders ORDER BY id"):
        linear = row["kind"] == "vae" and row["name"] == "linear"
        if row["id"] in known and not (linear and not known[row["id"]].is_dir()):
            continue
        if linear:
            row["path"] = str(_bring_codec(manifest, path, Path(row["path"])))
        with manifest.transaction():
            manifest.execute("DELETE FROM encoders WHERE id = ?", [row["id"]])
            manifest.insert("encoders", [row | {"run": manifest.run}])


def _bring_codec(manifest: Manifest, path: Path, stated: Path) -> Path:
    """Return where a linear codec lies, to which it is copied from beside the other manifest, or from where its row
    says; the latter when it is in neither place."""
    other = beside(path, "latents") / stated.name
    codec, target = other if other.is_dir() else stated, latents_folder(manifest).absolute() / stated.name
    if target.is_dir() or not codec.is_dir():
        return target if target.is_dir() else stated
    with publish_folder(target) as temporary:
        shutil.copytree(codec, temporary, copy_function=shutil.copyfile, dirs_exist_ok=True)
    return target
