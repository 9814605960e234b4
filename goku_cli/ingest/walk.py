"""Everything that `goku ingest` can be pointed at, as one stream: folders, files, globs, lists, tars, URLs, stdin."""

import codecs
import glob
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from goku_cli.errors import Cause, GokuError, UsageError
from goku_cli.ingest.archive import members
from goku_cli.ingest.folder import ARCHIVE, expand, suffix_of, walk
from goku_cli.ingest.found import Found, can_be_named, scheme_of
from goku_cli.ingest.lists import LISTS, check_list, read_list, read_names
from goku_cli.media.probing.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

SIDECAR_SUFFIXES = frozenset([".txt", ".json"])
FETCHED = frozenset(["http", "https", "s3"])


class Media:
    """What some paths name, found anew at each iteration: nothing is kept but what came through stdin."""

    def __init__(self, names: Sequence[str], follow_links: bool, stdin: IO[bytes] | None, encoding: str) -> None:
        self.names = names
        self.encoding = encoding
        self.follow_links = follow_links
        self.stdin = stdin

    def __iter__(self) -> Iterator[Found]:
        for name in self.names:
            if name == "-" and self.stdin is not None:
                for line in read_names(self.stdin):
                    yield from self._named(line)
            else:
                yield from self._named(name)

    def _named(self, name: str) -> Iterator[Found]:
        if scheme_of(name) is not None:
            yield from self._one(Found(name))
        elif os.path.isdir(name):
            for found in walk(name, self.follow_links):
                yield from self._one(found)
        elif glob.has_magic(name) and not os.path.lexists(name):
            for path in expand(name):
                yield from self._named(path)
        elif suffix_of(name) in LISTS:
            for found in read_list(name, self.encoding):
                yield from self._one(found)
        elif suffix_of(name) not in SIDECAR_SUFFIXES:
            yield from self._one(Found(os.path.abspath(name)))

    def _one(self, found: Found) -> Iterator[Found]:
        scheme = scheme_of(found.name)
        if not can_be_named(found.name):
            yield Found(repr(found.name)[:200], fault=(Cause.NAME, "no file can have this name"))
        elif found.fault is None and scheme is not None and scheme not in FETCHED:
            yield replace(found, fault=(Cause.NAME, f"{scheme}:// is not fetched; only {', '.join(sorted(FETCHED))}"))
        elif found.fault is None and scheme is None and suffix_of(found.name) == ARCHIVE:
            yield from members(found.name)
        else:
            yield found


def find_media(names: Sequence[str | Path], follow_links: bool = False, encoding: str = "utf-8") -> Media:
    """Check what the user typed and return all that it names; lists come first, because they can say more.

    A named file counts whatever its suffix (an unreadable one becomes a failure), except sidecars.

    Raises:
        UsageError: there is no such encoding (of lists without a byte order mark), a path does not exist, an address is
            not one that is fetched, or a list names no files.
        GokuError: there is not one medium.
    """
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise UsageError(f'no encoding "{encoding}"; e.g. utf-8, cp1252, gb18030, shift_jis') from None
    words = sorted((str(name) for name in names), key=lambda word: suffix_of(word) not in LISTS)
    for word in words:
        _check(word, encoding)
    stdin = None
    if "-" in words:
        stdin = tempfile.TemporaryFile()  # it is read twice: to count, and to work  # noqa: SIM115
        shutil.copyfileobj(sys.stdin.buffer, stdin)
    media = Media(words, follow_links, stdin, encoding)
    if next(iter(media), None) is None:
        known = " ".join(sorted(VIDEO_SUFFIXES)), " ".join(sorted(IMAGE_SUFFIXES))
        raise GokuError(f"no video ({known[0]}) or image ({known[1]}) in {', '.join(words)}; name another folder")
    return media


def _check(word: str, encoding: str) -> None:
    scheme = scheme_of(word)
    if scheme is not None and scheme not in FETCHED:
        hint = f"type the path: {unquote(word.partition('://')[2])}" if scheme == "file" else "download it first"
        raise UsageError(f"{scheme}:// addresses are not fetched, only {', '.join(sorted(FETCHED))}; {hint}")
    if scheme == "s3" and importlib.util.find_spec("s3fs") is None:
        raise UsageError(f"{word} needs the package s3fs; install it with: pip install s3fs")
    if scheme is not None or word == "-":
        return
    if os.path.lexists(word):
        if suffix_of(word) in LISTS and not os.path.isdir(word):
            check_list(word, encoding)
    elif not glob.has_magic(word):
        raise UsageError(f"no file or folder at {word}; check the name, or put it in quotes")
    elif next(expand(word), None) is None:
        raise UsageError(f"nothing matches {word}; check the pattern (** stands for folders of any depth)")
