"""Sidecar files: `x.txt` or `x.json` (or `x.mp4.txt`, `x.mp4.json`), with captions, origin and license.

Whatever is wrong with a sidecar, the file that it speaks of is as good as before.
"""

import ast
import json
import os
import re
from dataclasses import dataclass, field
from typing import Any

from goku_cli.wording import clean, decoded, unreadable

MAX_BYTES = 1_000_000
MAX_CHARACTERS = 4_000
MAX_SECONDS = 1e6
SUFFIXES = (".json", ".JSON", ".txt", ".TXT")
"""JSON can say more, so a text is read only when the JSON has no caption."""
CAPTIONS = ("caption", "text")
"""What a caption is called in a list and in JSON."""
NOTHING = frozenset(["nan", "none", "null", "<na>"])
"""What libraries write into a column of texts where there is none."""
_UNSAFE = re.compile("[\0\u202a-\u202e\u2066-\u2069]")
Caption = tuple[int | None, int | None, str]
"""start_us and end_us, None for the whole file, and the text."""


@dataclass
class Said:
    """What is said of one file."""

    captions: list[Caption] = field(default_factory=list)
    origin: str | None = None
    license: str | None = None
    wrong: list[str] = field(default_factory=list)
    """Why something was not read."""

    def read(self, name: str, suffix: str, size: int, content: bytes, encoding: str = "utf-8") -> None:
        """Add what a sidecar says; what is said already stays. What cannot be read is left out."""
        if size > MAX_BYTES:
            self.wrong.append(f"{name} is larger than {MAX_BYTES} bytes")
            return
        try:
            text = decoded(content, encoding)
        except ValueError:
            self.wrong.append(f"{name} is in another encoding than {encoding} (--encoding names it)")
            return
        if suffix == ".txt":
            problem = unreadable(text)
            if problem:
                self.wrong.append(f"{name}: {problem}")
            else:
                self.add(text)
            return
        try:
            self._read_json(json.loads(text))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            self.wrong.append(f"{name} is not a caption file: {error}")

    def add(self, text: str, start_us: int | None = None, end_us: int | None = None) -> None:
        """Add one caption, unless the whole file has one already."""
        words = clean(text, MAX_CHARACTERS)
        if _UNSAFE.search(text):
            self.wrong.append(f"what hides or turns text was left out of: {words[:40]}")
        if words and (start_us is not None or not self.captions):
            self.captions.append((start_us, end_us, words))

    def _read_json(self, said: Any) -> None:
        """Read {"caption": text} or {"captions": [{"start": seconds, "end": seconds, "text": text}, ...]}."""
        if not isinstance(said, dict):
            return
        self.origin = self.origin or line_of(said.get("url"))
        self.license = self.license or line_of(said.get("license"))
        for key in CAPTIONS:
            text, problem = caption_of(said.get(key))
            if problem:
                raise ValueError(problem)
            if text:
                self.add(text)
                return
        for part in said.get("captions") or ():
            if isinstance(part, dict) and isinstance(part.get("text"), str) and "start" in part and "end" in part:
                start, end = float(part["start"]), float(part["end"])
                if not 0 <= start <= end <= MAX_SECONDS:
                    raise ValueError(f"no text can be from {start} to {end} s")
                self.add(part["text"], round(start * 1e6), round(end * 1e6))


def caption_of(value: Any) -> tuple[str | None, str | None]:
    """Return the caption that a cell of a list or a field of JSON holds, and why it is none.

    Of several captions it is the first. Neither is there where there is nothing.
    """
    if value is None or value != value:
        return None, None
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in NOTHING:
            return None, None
        if text.startswith(("['", '["')) and text.endswith("]"):
            try:
                return caption_of(ast.literal_eval(text))
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                pass
        problem = unreadable(value)
        return (None, problem) if problem else (value, None)
    if isinstance(value, list):
        texts = [text for text in value if isinstance(text, str) and text.strip()]
        return caption_of(texts[0]) if texts else (None, f"a caption is a text, not {value!r:.60}")
    return None, f"a caption is a text, not {value!r:.60}"


def sidecars_of(path: str) -> list[str]:
    """Return the sidecars beside a media file, those that can say more first."""
    stem = os.path.splitext(path)[0]
    names = (base + suffix for suffix in SUFFIXES for base in (stem, path))
    return [name for name in names if os.path.isfile(name)]


def read_sidecar(said: Said, path: str, encoding: str = "utf-8") -> None:
    """Add what a sidecar file says."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        said.wrong.append(f"{os.path.basename(path)}: {error.strerror}")
        return
    said.read(os.path.basename(path), os.path.splitext(path)[1].lower(), len(content), content, encoding)


def line_of(value: Any) -> str | None:
    """Return a text on one line, or None for what is none."""
    return clean(value, MAX_CHARACTERS) or None if isinstance(value, str) else None
