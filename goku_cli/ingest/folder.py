"""Folder walks: links that loop are followed once, nothing outside, everything in a fixed order.

Names are kept of one folder at a time, so a walk through millions of files needs no memory for them.
"""

import fnmatch
import glob
import os
from collections.abc import Iterator

from goku_cli.errors import Cause
from goku_cli.ingest.found import Found
from goku_cli.manifest.beside import ENDING
from goku_cli.media.probing.suffixes import MEDIA_SUFFIXES

ARCHIVE = ".tar"
OURS = (".files", ".samples")
"""Folders beside a manifest that hold what goku itself wrote."""


def walk(folder: str, follow_links: bool) -> Iterator[Found]:
    """Yield what has the suffix of a medium or of a tar below a folder, links and pipes included.

    Hidden names and unfinished `.tmp-` files are not looked at. What cannot be read, or is a link that leads out
    of the folder, is yielded with its fault.
    """
    root, visited = None if follow_links else os.path.realpath(folder), set[tuple[int, int]]()
    stack = [_inside(os.path.abspath(folder), root, visited)]  # folders may be nested deeper than calls may be
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
        elif isinstance(found, Found):
            yield found
        else:
            stack.append(_inside(found, root, visited))


def expand(pattern: str) -> Iterator[str]:
    """Yield the paths that match a glob, in order; `**` stands for any depth."""
    steps = os.path.abspath(pattern).split(os.sep)[1:]
    yield from _matching(os.sep, steps)


def suffix_of(name: str) -> str:
    """Return the suffix of a name in lower case."""
    return os.path.splitext(name)[1].lower()


def _inside(folder: str, root: str | None, visited: set[tuple[int, int]]) -> Iterator[Found | str]:
    """Yield what lies in one folder: media, and the paths of the folders in it."""
    try:
        status = os.stat(folder)
        names, folders, links = _listed(folder)
    except OSError as error:
        denied = isinstance(error, PermissionError)
        detail = "the folder may not be read by this user" if denied else str(error.strerror)
        yield Found(folder, fault=(Cause.PERMISSION if denied else Cause.UNREADABLE, detail))
        return
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    for name in names:
        path = os.path.join(folder, name)
        if root is not None and name in links and not _within(os.path.realpath(path), root):
            yield Found(path, fault=(Cause.NOT_REGULAR, f"a link that leads out of {root}; --follow-links follows it"))
        else:
            yield path if name in folders else Found(path)


def _listed(folder: str) -> tuple[list[str], set[str], set[str]]:
    """Return the names to look at, sorted, and which of them are folders and links."""
    names, folders, links = [], set(), set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or ".tmp-" in entry.name:
                continue
            if _is_folder(entry):
                if entry.name.endswith(OURS) and _beside_a_manifest(os.path.splitext(entry.path)[0]):
                    continue
                folders.add(entry.name)
            elif suffix_of(entry.name) not in MEDIA_SUFFIXES and suffix_of(entry.name) != ARCHIVE:
                continue
            if entry.is_symlink():
                links.add(entry.name)
            names.append(entry.name)
    return sorted(names), folders, links


def _beside_a_manifest(stem: str) -> bool:
    return os.path.isfile(stem + ENDING) or os.path.isfile(stem)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _matching(folder: str, steps: list[str]) -> Iterator[str]:
    if not steps:
        yield folder
        return
    step, rest = steps[0], steps[1:]
    if step == "**":
        pending = [folder]
        while pending:
            below = pending.pop()
            paths = [os.path.join(below, name) for name in sorted(_names(below), reverse=True) if name[0] != "."]
            pending += [path for path in paths if os.path.isdir(path) and not os.path.islink(path)]
            yield from _matching(below, rest or ["*"])
    elif glob.has_magic(step):
        for name in sorted(fnmatch.filter(_names(folder), step)):
            if step.startswith(".") or not name.startswith("."):
                yield from _matching(os.path.join(folder, name), rest)
    elif os.path.lexists(path := os.path.join(folder, step)):
        yield from _matching(path, rest)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
