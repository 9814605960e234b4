"""Prompts: text files with {placeholders}, which a user can replace by a folder of their own."""

import string
from dataclasses import dataclass
from pathlib import Path

from goku_cli.errors import UsageError
from goku_cli.recipe import fingerprint, packaged
from goku_cli.registry import nearest

PLACEHOLDERS: dict[str, tuple[str, ...]] = {
    "frame": (),
    "video": ("frames", "seconds", "times", "camera", "motion"),
    "merge": ("seconds", "moments", "whole", "camera", "motion"),
}
"""File -> what may stand in braces in it."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of one folder."""

    texts: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """What names these words in parameters: a changed prompt is another captioner."""
        return fingerprint(self.texts)

    @property
    def everything(self) -> str:
        """All of them, to tell where a caption repeats its prompt."""
        return "\n".join(self.texts.values())

    def fill(self, name: str, **values: object) -> str:
        """Return a prompt with its placeholders filled; braces in the values stay as they are."""
        return self.texts[name].format(**values)


def load_prompts(folder: Path | None = None) -> Prompts:
    """Read the prompts of a folder, or those that ship with goku.

    Raises:
        UsageError: a file is missing or not text, or a placeholder in it is unknown.
    """
    folder = folder or packaged("prompts")
    return Prompts({name: _read(folder / f"{name}.txt", known) for name, known in PLACEHOLDERS.items()})


def _read(path: Path, known: tuple[str, ...]) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
        fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    except OSError as error:
        start = f"copy those of {packaged('prompts')} and change them"
        raise UsageError(f"no prompt at {path} ({error.strerror}); {start}") from error
    except ValueError as error:  # not UTF-8, or a brace that stands alone
        raise UsageError(f"{path} is not a prompt: {error}; a brace of its own is written {{{{ or }}}}") from error
    for field in fields:
        if field not in known:
            listed = ", ".join(f"{{{name}}}" for name in known) or "none"
            raise UsageError(f"{path}: unknown placeholder {{{field}}}{nearest(field, list(known))}; known: {listed}")
    if not text:
        raise UsageError(f"{path} is empty")
    return text
