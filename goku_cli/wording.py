"""Text from outside, made safe to keep: sidecars and captions are data, whatever they say."""

import codecs
import re
import unicodedata

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNWANTED = frozenset(["Cc", "Cf", "Cs", "Co"])
_GAPS = frozenset("\x81\x8d\x8f\x90\x9d")
_LOST = re.compile("[\ud800-\udfff]")


def clean(text: str, limit: int) -> str:
    """Return `text` on one line, without control and direction characters, cut to `limit` characters."""
    spaced = (" " if character.isspace() else character for character in text[: limit * 4])
    kept = "".join(character for character in spaced if unicodedata.category(character) not in _UNWANTED)
    return " ".join(kept.split())[:limit].rstrip()


def encoding_of(start: bytes, declared: str = "utf-8") -> str:
    """Return what the first bytes of a text say of its encoding by a byte order mark, else the declared one."""
    return next((encoding for mark, encoding in _MARKS if start.startswith(mark)), declared)


def decoded(content: bytes, declared: str = "utf-8") -> str:
    """Return a text without its byte order mark.

    Raises:
        ValueError: it is not in the encoding that its mark or, without one, `declared` says.
    """
    return content.decode(encoding_of(content, declared))


def lines_of(text: str) -> list[str]:
    r"""Return the lines of a text, which end at \n or \r\n alone: a form feed or U+2028 is within a line."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def unreadable(text: str) -> str | None:
    """Say why a text cannot be what was written: its bytes were decoded wrongly, here or by others before."""
    if _LOST.search(text):
        return "it is in another encoding (--encoding names it)"
    if "\ufffd" in text:
        return "characters of it were lost before (U+FFFD)"
    if text.isascii():
        return None
    try:
        _as_windows(text).decode("utf-8")
    except UnicodeError:
        return None
    return "it is UTF-8 that was read as Windows-1252 before"


def _as_windows(text: str) -> bytes:
    """Encode as Windows-1252, with its five gaps filled as in Latin-1, which is what programs do that read so."""
    return b"".join(c.encode("latin-1") if c in _GAPS else c.encode("cp1252") for c in text)
