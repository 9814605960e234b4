"""Shards without rows, and rows without shards.

Of shards that are gone the rows and receipts go as well, so that what they held is encoded again. But a folder of which
all are gone is rather a disk that is not mounted: nothing is forgotten then unless it is asked for.
"""

import glob
import shutil
import uuid
from pathlib import Path

from goku_cli.encode.codec import latents_folder
from goku_cli.errors import GokuError
from goku_cli.manifest.shards import OWN, remove_unnamed
from goku_cli.manifest.store import Manifest, Row

SPEAKING = (("latents", "clip", "encode-latents"), ("text_states", "text_id", "encode-text"))
"""Tables of tensors, the column of their items, and the stage that makes them."""


def stage_name(kind: str, encoder: str) -> str:
    """Return the stage of an encoder's receipts."""
    return f"{'encode-latents' if kind == 'vae' else 'encode-text'}/{encoder}"


def lost_shards(manifest: Manifest) -> list[str]:
    """Return the shards that are missing, or have another size than they were written with."""
    return [row["path"] for row in manifest.query("SELECT path, bytes FROM shards") if not _whole(manifest, row)]


def check_mounted(manifest: Manifest) -> None:
    """Refuse to go on when a folder has none of its shards.

    Raises:
        GokuError: with the folder.
    """
    by_folder: dict[Path, list[Path]] = {}
    for row in manifest.query("SELECT path FROM shards ORDER BY path"):
        path = manifest.path.parent / row["path"]
        by_folder.setdefault(path.parent, []).append(path)
    for folder, paths in by_folder.items():
        if not any(path.exists() for path in paths):
            raise GokuError(f"all {len(paths)} shards in {folder} are gone; mount or restore it, or encode everything "
                            "again with --forget-lost")  # fmt: skip


def passing_name(manifest: Manifest) -> Path:
    """Return a new path beside a manifest for one that lives as long as an import."""
    return manifest.path.with_name(f".{manifest.path.name}.import-{uuid.uuid4().hex[:8]}")


def remove_orphans(manifest: Manifest) -> int:
    """Delete what a killed run left: the manifest of an import, and in the folder of latents the shards that no row
    names; return the bytes of these.

    Only whoever has the manifest open for writing may ask for it: nobody else can then have just published a shard.
    """
    for passing in manifest.path.parent.glob(f".{glob.escape(manifest.path.name)}.import-*"):
        shutil.rmtree(passing) if passing.is_dir() else passing.unlink()  # DuckDB spills into a folder
    folder = latents_folder(manifest)
    names = [path.name for path in folder.glob("*") if OWN.fullmatch(path.name)]
    return remove_unnamed(manifest, [str((folder / name).relative_to(manifest.path.parent)) for name in names])


def _whole(manifest: Manifest, row: Row) -> bool:
    path = manifest.path.parent / row["path"]
    return path.exists() and path.stat().st_size == row["bytes"]


def forget(manifest: Manifest, shards: list[str]) -> int:
    """Forget shards with everything about the items that they hold a part of; return how many items that is."""
    items = 0
    with manifest.transaction():
        for table, column, stage in SPEAKING:
            sql = f"SELECT DISTINCT {column} AS item, encoder FROM {table} JOIN asked ON shard = asked.key"
            by_encoder: dict[str, list[str]] = {}
            for row in manifest.matching(sql, shards):
                by_encoder.setdefault(row["encoder"], []).append(row["item"])
            for encoder, keys in by_encoder.items():
                manifest.delete(table, column, keys, "encoder = ?", [encoder])
                manifest.delete("receipts", "item", keys, "stage = ?", [f"{stage}/{encoder}"])
                items += len(keys)
        manifest.delete("shards", "path", shards)
    return items
