"""Samples as pages show them: rows of `samples`, each with its player."""

from collections.abc import Sequence

from goku_cli.manifest.store import Manifest, Row
from goku_cli.report.pictures import player


def is_set(manifest: Manifest, name: str | None) -> bool:
    """Say whether a name is that of a set of samples; one of a selection stays that."""
    taken = manifest.value("SELECT count(*) FROM selections WHERE name = ?", [name])
    return not taken and bool(manifest.value("SELECT count(*) FROM samples WHERE name = ?", [name]))


def samples_of(manifest: Manifest, name: str) -> list[Row]:
    """Return a set of samples, in the order in which they were noted."""
    return manifest.query("SELECT * FROM samples WHERE name = ? ORDER BY rowid", [name])


def played(manifest: Manifest, rows: Sequence[Row]) -> list[Row]:
    """Return those of some samples that can be read, with their players; rows have at least path and fps."""
    shown = [row | {"player": player(manifest.path.parent / row["path"], row["fps"])} for row in rows]
    return [row for row in shown if row["player"]]
