"""The classes of a class-conditional model (paper section 4.1 trains one on ImageNet): the captions themselves.

Every distinct caption of the selection is a class, in alphabetical order; what a sample's caption says is its label,
and what is dropped for guidance gets the label after the last. So a class is asked for by its name, as a prompt is.
"""

from collections.abc import Sequence
from typing import Any

from goku_cli.errors import UsageError
from goku_cli.manifest.store import Manifest, Row

CAPTIONS = """
SELECT DISTINCT left(sha256(text), 32) AS key, text FROM captions JOIN selections USING (clip)
WHERE kind = 'merged' AND conflict IS NULL AND selections.name = ? AND reason IS NULL AND weight > 0 ORDER BY text
"""


def classes_of(manifest: Manifest, selection: str, wanted: int, learned: Sequence[Row] | None) -> list[Row]:
    """Return {"key" (of its text states), "text"} of every class: those of the selection, or of the run before.

    Raises:
        UsageError: there are not as many captions as the model has classes, or one that the run before did not know.
    """
    found = manifest.query(CAPTIONS, [selection])
    if learned is not None:
        known = {row["text"] for row in learned}
        if new := [row["text"] for row in found if row["text"] not in known]:
            raise UsageError(f'the checkpoint to begin with has no class "{new[0]}"; it knows '
                             f"{', '.join(sorted(known)[:10])}")  # fmt: skip
        return list(learned)
    if len(found) != wanted:
        some = ", ".join(row["text"][:30] for row in found[:5])
        raise UsageError(f"{manifest.path}#{selection} has {len(found)} distinct captions ({some}, ...); "
                         f"[model] classes says {wanted}")  # fmt: skip
    return found


def labels(data: dict[str, Any]) -> dict[str, int] | None:
    """Return the label of every class by the key of its text states; None without classes."""
    found = data.get("classes")
    return None if found is None else {row["key"]: i for i, row in enumerate(found)}
