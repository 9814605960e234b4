"""Writing a selection: a named set of clips, each with a weight, and a reason when it was dropped."""

from goku_cli.manifest.store import Manifest


def replace_selection(manifest: Manifest, name: str, query: str) -> bool:
    """Make the selection `name` what `query` (clip, weight, reason) yields; return whether anything changed.

    Rows that would be written again as they are keep the run that wrote them.
    """
    manifest.execute(f"CREATE OR REPLACE TEMP TABLE wanted AS {query}")
    new = "SELECT clip, weight, reason FROM wanted"
    old = "SELECT clip, weight, reason FROM selections WHERE name = ?"
    changes = f"(({new}) EXCEPT ({old})) UNION ALL (({old}) EXCEPT ({new}))"
    if not manifest.value(f"SELECT count(*) FROM ({changes})", [name, name]):
        return False
    with manifest.transaction():
        manifest.execute("DELETE FROM selections WHERE name = ?", [name])
        manifest.execute(
            f"INSERT INTO selections (name, clip, weight, reason, run) SELECT ?, *, ? FROM ({new})",
            [name, manifest.run],
        )
    return True
