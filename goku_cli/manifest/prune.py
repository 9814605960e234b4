"""Cascading deletes: no row refers to a source or a clip that is gone.

A shard of which no row is left goes too: first its row, then, when that is committed, its file.
"""

from goku_cli.manifest.shards import remove_unnamed
from goku_cli.manifest.store import Manifest

OF_CLIPS = ("scores", "captions", "tags", "selections", "latents")
OF_SOURCES = ("clips", "sidecars")
EMPTY = "FROM shards WHERE path NOT IN (SELECT shard FROM latents UNION SELECT shard FROM text_states)"


def prune(manifest: Manifest) -> int:
    """Remove sources without a file, clips of no source, and every row, receipt and shard of what was removed.

    Returns the bytes of shards that this freed.
    """
    with manifest.transaction():
        manifest.execute("DELETE FROM sources WHERE id NOT IN (SELECT source FROM source_paths)")
        for table in OF_SOURCES:
            manifest.execute(f"DELETE FROM {table} WHERE source NOT IN (SELECT id FROM sources)")
        speaking = " UNION ".join(f"SELECT clip FROM {table}" for table in OF_CLIPS)
        manifest.execute(f"CREATE OR REPLACE TEMP TABLE vanished AS ({speaking}) EXCEPT SELECT id FROM clips")
        for table in OF_CLIPS:
            manifest.execute(f"DELETE FROM {table} WHERE clip IN (FROM vanished)")
        manifest.execute("DELETE FROM receipts WHERE item IN (FROM vanished)")
        manifest.execute("DELETE FROM receipts WHERE stage = 'split' AND item NOT IN (SELECT id FROM sources)")
        empty = [row["path"] for row in manifest.query(f"SELECT path {EMPTY}")]
        manifest.execute(f"DELETE {EMPTY}")
    return remove_unnamed(manifest, empty)
