"""Writing a selection: a named set of clips, each with a weight, and a reason when it was dropped."""

from goku_cli.manifest.store import Manifest

DIGEST = "SELECT count(*) AS n, sum(hash(clip, weight, reason)::HUGEINT) AS digest FROM "
"""The rows of a selection in any order. Joining old with new would sort 36 million clips to say that they are equal."""


def replace_selection(manifest: Manifest, name: str, query: str) -> bool:
    """Make the selection `name` what `query` (clip, weight, reason) yields; return whether anything changed.

    Rows that would be written again as they are keep the run that wrote them.
    """
    manifest.execute(f"CREATE OR REPLACE TEMP TABLE wanted AS {query}")
    old = manifest.query(f"{DIGEST} selections WHERE name = ?", [name])
    if manifest.query(f"{DIGEST} wanted") == old:
        return False
    with manifest.transaction():
        manifest.execute("DELETE FROM selections WHERE name = ?", [name])
        manifest.execute(
            "INSERT INTO selections (name, clip, weight, reason, run) SELECT ?, clip, weight, reason, ? FROM wanted",
            [name, manifest.run],
        )
    return True
