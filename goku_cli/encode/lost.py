"""Shards that are gone: their rows and receipts go as well, so that what they held is encoded again."""

from goku_cli.manifest.store import Manifest, Row

SPEAKING = (("latents", "clip", "encode-latents"), ("text_states", "text_id", "encode-text"))
"""Tables of tensors, the column of their items, and the stage that makes them."""


def stage_name(kind: str, encoder: str) -> str:
    """Return the stage of an encoder's receipts."""
    return f"{'encode-latents' if kind == 'vae' else 'encode-text'}/{encoder}"


def lost_shards(manifest: Manifest) -> list[str]:
    """Return the shards that are missing, or have another size than they were written with."""
    return [row["path"] for row in manifest.query("SELECT path, bytes FROM shards") if not _whole(manifest, row)]


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
