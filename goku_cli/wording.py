"""Text from outside, made safe to keep: sidecars and captions are data, whatever they say."""

import unicodedata


def clean(text: str, limit: int) -> str:
    """Return `text` on one line, without control and direction characters, cut to `limit` characters."""
    spaced = (" " if character.isspace() else character for character in text[: limit * 4])
    kept = "".join(character for character in spaced if unicodedata.category(character) not in _UNWANTED)
    return " ".join(kept.split())[:limit].rstrip()


_UNWANTED = frozenset(["Cc", "Cf", "Cs", "Co"])
