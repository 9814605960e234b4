"""Logs of one JSON object a line, to which a process appends that may be killed at any instant."""

import json
from typing import Any


def entries(text: bytes) -> list[dict[str, Any]]:
    """Return the objects of a log; a line that a kill or a full disk cut short is left out."""
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found
