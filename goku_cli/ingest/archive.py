"""Tar files of media (WebDataset, img2dataset): members of one key belong together, `a.jpg` with `a.txt` and `a.json`.

Only headers are read here, and only where a member lies is kept, so members can be read by many workers, and no
name from a tar ever becomes a path.
"""

import os
import tarfile
from collections.abc import Iterator

from goku_cli.errors import Cause
from goku_cli.ingest.folder import suffix_of
from goku_cli.ingest.found import Found, Member
from goku_cli.media.suffixes import MEDIA_SUFFIXES

TEXTS = frozenset([".txt", ".json"])
GROUP = 64
"""Members of one key that are looked at together; more are a tar that is not grouped by key."""


def members(path: str) -> Iterator[Found]:
    """Yield the media in a tar; one that is cut off yields what is whole, and then its fault."""
    key, group = None, list[tarfile.TarInfo]()
    try:
        with tarfile.open(path, "r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or it would keep every header
                if not info.isreg() or info.issparse():
                    continue
                if _key(info.name) != key or len(group) == GROUP:
                    yield from _grouped(path, group)
                    key, group = _key(info.name), []
                group.append(info)
        yield from _grouped(path, group)
    except FileNotFoundError:
        yield Found(path, fault=(Cause.VANISHED, f"{path} is gone"))
    except PermissionError:
        yield Found(path, fault=(Cause.PERMISSION, "it may not be read by this user"))
    except (tarfile.TarError, OSError, ValueError) as error:
        yield from _grouped(path, group)
        yield Found(path, fault=(Cause.TRUNCATED if key else Cause.UNREADABLE, f"as a tar: {error}"))


def read_range(path: str, offset: int, size: int) -> Iterator[bytes]:
    """Yield a range of a file in blocks of at most 1 MiB."""
    with open(path, "rb") as file:
        file.seek(offset)
        while size > 0 and (block := file.read(min(size, 1 << 20))):
            size -= len(block)
            yield block


def _key(name: str) -> str:
    folder, base = os.path.split(name)
    return f"{folder}/{base.partition('.')[0]}"


def _grouped(path: str, group: list[tarfile.TarInfo]) -> Iterator[Found]:
    spoken = ((suffix_of(info.name), info.offset_data, info.size) for info in group)
    texts = tuple(sorted(text for text in spoken if text[0] in TEXTS))  # JSON, which can say more, comes first
    for info in group:
        suffix = suffix_of(info.name)
        if suffix in MEDIA_SUFFIXES and not os.path.basename(info.name).startswith("."):
            member = Member(path, suffix, info.offset_data, info.size, texts)
            yield Found(f"{path}!{info.name}", member=member)
