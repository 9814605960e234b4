"""Which files: folders searched through, links that loop followed once, everything in a fixed order."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from goku_cli.errors import GokuError, UsageError
from goku_cli.media.suffixes import IMAGE_SUFFIXES, MEDIA_SUFFIXES, VIDEO_SUFFIXES

SIDECAR_SUFFIXES = frozenset([".txt", ".json"])


def find_media(paths: Sequence[Path]) -> list[Path]:
    """Return the absolute paths of the media files named or lying below the folders named, sorted.

    A named file counts whatever its suffix (an unreadable one becomes a failure), except sidecars.

    Raises:
        UsageError: a path does not exist.
        GokuError: there is not one media file.
    """
    found: set[str] = set()
    for path in paths:
        if not path.exists():
            raise UsageError(f"no file or folder at {path}; check the name, or put it in quotes")
        if path.is_dir():
            found.update(_below(os.path.abspath(path), set()))
        elif path.suffix.lower() not in SIDECAR_SUFFIXES:
            found.add(os.path.abspath(path))
    if not found:
        names = ", ".join(str(path) for path in paths)
        known = " ".join(sorted(VIDEO_SUFFIXES)), " ".join(sorted(IMAGE_SUFFIXES))
        raise GokuError(f"no video ({known[0]}) or image ({known[1]}) in {names}; name another folder")
    return [Path(name) for name in sorted(found)]


def _below(folder: str, visited: set[tuple[int, int]]) -> Iterator[str]:
    """Yield media files below a folder; hidden names and unfinished `.tmp-` files are not looked at."""
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith(".") or ".tmp-" in entry.name:
                continue
            if entry.is_dir():
                yield from _below(entry.path, visited)
            elif entry.is_file() and Path(entry.name).suffix.lower() in MEDIA_SUFFIXES:
                yield entry.path
