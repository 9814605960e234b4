"""Tar files of media (WebDataset, img2dataset) and the texts that belong to them, `a.jpg` with `a.txt` and `a.json`.

Only headers are read here, and only where a member lies is kept, so members can be read by many workers, and no
name from a tar ever becomes a path. Members may come in any order.
"""

import os
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from goku_cli.errors import Cause
from goku_cli.ingest.folder import suffix_of
from goku_cli.ingest.found import Found, Member
from goku_cli.media.probing.suffixes import MEDIA_SUFFIXES

TEXTS = frozenset([".txt", ".json"])
Text = tuple[str, int, int]
"""suffix, offset and size"""


@dataclass
class Index:
    """Where the media of a tar lie, and its texts by their names without suffix."""

    media: list[tuple[str, int, int]] = field(default_factory=list)
    """name, offset and size"""
    texts: dict[str, list[Text]] = field(default_factory=lambda: defaultdict(list))
    by_key: dict[str, list[Text]] = field(default_factory=lambda: defaultdict(list))
    """Texts by what WebDataset takes for a sample's key: all before the first dot of a name."""

    def add(self, info: tarfile.TarInfo) -> None:
        """Take in a member that is a plain file; hidden ones, such as a Mac's `._a.jpg`, are none of the set."""
        if os.path.basename(info.name).startswith("."):
            return
        suffix, place = suffix_of(info.name), (info.offset_data, info.size)
        if suffix in MEDIA_SUFFIXES:
            self.media.append((info.name, *place))
        elif suffix in TEXTS:
            self.texts[os.path.splitext(info.name)[0]].append((suffix, *place))
            self.by_key[_key(info.name)].append((suffix, *place))

    def texts_of(self, name: str) -> tuple[Text, ...]:
        """Return the texts of a medium, JSON first, which can say more.

        Its own are those of its whole name (`Mr. Bean 1.mp4`, `Mr. Bean 1.txt`), with its suffix or without. Where
        there are none, those of its key in a WebDataset: one of the two names is then no more than the key
        (`7.left.jpg` and `7.txt`, `7.jpg` and `7.caption.txt`).
        """
        stem, key = os.path.splitext(name)[0], _key(name)
        found = self.texts.get(stem, []) + self.texts.get(name, []) or self.texts.get(key, [])
        if not found and stem == key:
            found = self.by_key.get(key, [])
        return tuple(sorted(found))


def members(path: str) -> Iterator[Found]:
    """Yield the media in a tar; one that is cut off yields what is whole, and then its fault."""
    index, fault = Index(), None
    try:
        with tarfile.open(path, "r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or it would keep every header
                if info.isreg() and not info.issparse():
                    index.add(info)
    except FileNotFoundError:
        fault = Cause.VANISHED, f"{path} is gone"
    except PermissionError:
        fault = Cause.PERMISSION, "it may not be read by this user"
    except (tarfile.TarError, OSError, ValueError) as error:
        fault = Cause.TRUNCATED if index.media or index.texts else Cause.UNREADABLE, f"as a tar: {error}"
    for name, offset, size in index.media:
        member = Member(path, suffix_of(name), offset, size, index.texts_of(name))
        yield Found(f"{path}!{name}", member=member)
    if fault is not None:
        yield Found(path, fault=fault)


def read_range(path: str, offset: int, size: int) -> Iterator[bytes]:
    """Yield a range of a file in blocks of at most 1 MiB."""
    with open(path, "rb") as file:
        file.seek(offset)
        while size > 0 and (block := file.read(min(size, 1 << 20))):
            size -= len(block)
            yield block


def _key(name: str) -> str:
    folder, base = os.path.split(name)
    return os.path.join(folder, base.partition(".")[0])
