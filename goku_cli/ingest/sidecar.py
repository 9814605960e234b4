"""Captions that lie beside a file: `x.txt` for all of it, `x.json` for parts of it."""

import json
from pathlib import Path
from typing import Any

from goku_cli.errors import GokuError
from goku_cli.wording import clean

MAX_BYTES = 1_000_000
MAX_CHARACTERS = 4_000


def sidecar_of(path: Path) -> Path | None:
    """Return the sidecar beside a media file; `x.json`, which can say more, comes before `x.txt`."""
    for suffix in (".json", ".txt"):
        beside = path.with_suffix(suffix)
        if beside.is_file():
            return beside
    return None


def read_sidecar(path: Path) -> list[tuple[int | None, int | None, str]]:
    """Return (start_us, end_us, text) of each caption; None, None for the whole file. Other JSON says nothing.

    Raises:
        GokuError: the file is too large or is not JSON.
    """
    if path.stat().st_size > MAX_BYTES:
        raise GokuError(f"sidecar {path.name} is larger than {MAX_BYTES} bytes")
    text = path.read_text(encoding="utf-8", errors="replace")
    found: list[tuple[int | None, int | None, str]]
    if path.suffix.lower() == ".txt":
        found = [(None, None, text)]
    else:
        try:
            found = _captions(json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise GokuError(f"sidecar {path.name} is not a caption file: {error}") from error
    cleaned = [(start, end, clean(words, MAX_CHARACTERS)) for start, end, words in found]
    return [caption for caption in cleaned if caption[2]]


def _captions(said: Any) -> list[tuple[int | None, int | None, str]]:
    """Read {"caption": text} or {"captions": [{"start": seconds, "end": seconds, "text": text}, ...]}."""
    if not isinstance(said, dict):
        return []
    if isinstance(said.get("caption"), str):
        return [(None, None, said["caption"])]
    parts = [part for part in said.get("captions") or () if isinstance(part, dict)]
    return [
        (round(float(part["start"]) * 1e6), round(float(part["end"]) * 1e6), part["text"])
        for part in parts
        if "start" in part and "end" in part and isinstance(part.get("text"), str)
    ]
