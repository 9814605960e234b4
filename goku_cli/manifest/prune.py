"""What vanishes with a row: nothing in the manifest speaks of a source or a clip that is no longer there."""

from goku_cli.manifest.store import Manifest

OF_CLIPS = ("scores", "captions", "tags", "selections", "latents")
OF_SOURCES = ("clips", "sidecars")


def prune(manifest: Manifest) -> None:
    """Remove sources without a file, clips of no source, and every row and receipt of what was removed."""
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
