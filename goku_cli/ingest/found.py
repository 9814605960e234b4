"""Media references: one file, URL or member of a tar, with the metadata of the place where it was found."""

import os
import re
from dataclasses import dataclass

from goku_cli.errors import Cause

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Member:
    """Where in a tar a file lies, with the texts of its key; the name of a member is never opened as a path."""

    archive: str
    suffix: str
    offset: int
    size: int
    texts: tuple[tuple[str, int, int], ...] = ()
    """(suffix, offset, size) of each."""


@dataclass(frozen=True)
class Found:
    """One thing to ingest."""

    name: str
    """An absolute path, a URL, or ARCHIVE!MEMBER: what it is known as from run to run."""
    caption: str | None = None
    license: str | None = None
    origin: str | None = None
    member: Member | None = None
    fault: tuple[Cause, str] | None = None
    """Why it need not even be tried."""
    wrong: str | None = None
    """Why what a list says of it was not taken as its caption."""

    @property
    def url(self) -> bool:
        """Whether it must be fetched."""
        return self.member is None and scheme_of(self.name) is not None

    @property
    def text(self) -> str:
        """The name as the manifest can hold it: bytes that are not UTF-8 become codes."""
        return os.fsencode(self.name).decode("utf-8", "backslashreplace")


def can_be_named(name: str) -> bool:
    """Say whether the system can be asked for a name: a list may hold NUL, or halves of characters."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def scheme_of(name: str) -> str | None:
    """Return `https` of `https://...`, or None for a path; `http:x.mp4` is a path."""
    matched = _SCHEME.match(name)
    return matched[1].lower() if matched else None
