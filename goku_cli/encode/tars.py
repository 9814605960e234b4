"""WebDataset tars from anywhere: only plain members named KEY.EXTENSION are read, nothing is unpacked to disk, and
arrays are `.npy` without objects."""

import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from goku_cli.encode.settings import DTYPES
from goku_cli.encode.window import INDEX
from goku_cli.errors import GokuError, UsageError
from goku_cli.publish import sha256

NAME = re.compile(r"([\w-]+)\.([\w.-]+)", re.ASCII)
END = bytes(2 * tarfile.BLOCKSIZE)
"""What a whole tar ends with."""


@dataclass
class Sample:
    """The members of one key, that lie one after another in a tar."""

    tar: Path
    key: str
    members: dict[str, bytes] = field(default_factory=dict)

    def wrong(self, what: str) -> GokuError:
        """Return the error that says what is wrong with it."""
        return GokuError(f"{self.tar}: {self.key} {what}; nothing was taken in")

    def member(self, name: str) -> bytes:
        """Return a member.

        Raises:
            GokuError: it is not there.
        """
        if name not in self.members:
            raise self.wrong(f"has no {self.key}.{name}")
        return self.members[name]

    def json(self) -> Any:
        """Return what KEY.json holds.

        Raises:
            GokuError: it is missing, or no JSON.
        """
        try:
            return json.loads(self.member("json"))
        except (ValueError, RecursionError) as error:
            raise self.wrong(f"has a .json that is none ({error})") from error

    def array(self, name: str) -> np.ndarray:
        """Return an array of floating-point numbers.

        Raises:
            GokuError: it is missing, is no .npy, holds objects, or a number that is not finite.
        """
        data = self.member(name)
        try:
            x: np.ndarray = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, MemoryError, OverflowError) as error:
            raise self.wrong(f"has a .{name} that is no array ({str(error).partition(chr(10))[0]})") from error
        if x.dtype.name not in DTYPES:
            raise self.wrong(f"has a .{name} of {x.dtype.name}, not of {' or '.join(DTYPES)}")
        if not np.isfinite(x).all():
            raise self.wrong(f"has a .{name} that holds NaN or infinity")
        return np.ascontiguousarray(x, x.dtype.name)


def tars_at(path: Path) -> list[Path]:
    """Return the tars that a path means: itself, or those of a folder, all of its index when it has one.

    Raises:
        UsageError: there are none.
        GokuError: one of the index is missing, or not what was written.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; name a folder that goku encode-latents --export wrote, or a tar")
    index = (path if path.is_dir() else path.parent) / INDEX
    sums = _sums(index) if index.is_file() else {}
    tars = [path] if path.is_file() else sorted({*path.glob("*.tar"), *(path / name for name in sums)})
    if not tars:
        raise UsageError(f"{path} holds no tars; name a folder that goku encode-latents --export wrote")
    for tar in tars:
        if not tar.is_file() or (tar.name in sums and sha256(tar) != sums[tar.name]):
            raise GokuError(f"{tar} is {'not what was written' if tar.is_file() else 'gone'}; fetch it again")
    return tars


def _sums(index: Path) -> dict[str, str]:
    try:
        sums = {name: about["sha256"] for name, about in json.loads(index.read_text(encoding="utf-8"))["tars"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GokuError(f"{index} is damaged; fetch it again, or remove it to go without its sums") from error
    if strange := [name for name in sums if not NAME.fullmatch(name)]:
        raise GokuError(f"{index} names {strange[0]!r}, which is no tar beside it")
    return sums


def count_samples(tar: Path) -> int:
    """Return how many samples a tar has, of which only the members' headers are read.

    Raises:
        GokuError: it is no tar, is cut, or has a member that is no file of a sample.
    """
    with tar.open("rb") as file:
        file.seek(-min(len(END), tar.stat().st_size), io.SEEK_END)
        if file.read() != END:
            raise GokuError(f"{tar} is cut, or no tar without compression; fetch it again")
    return sum(1 for _ in _samples(tar, read=False))


def read_samples(tar: Path) -> Iterator[Sample]:
    """Yield the samples of a tar.

    Raises:
        GokuError: as `count_samples`.
    """
    return _samples(tar, read=True)


def _samples(tar: Path, *, read: bool) -> Iterator[Sample]:
    sample: Sample | None = None
    try:
        with tarfile.open(tar, "r:") as opened:
            for member in opened:
                name = NAME.fullmatch(member.name)
                if name is None or not member.isreg() or member.issparse():
                    raise GokuError(f"{tar} has a member {member.name!r} that is no plain file KEY.EXTENSION")
                if sample is not None and sample.key != name[1]:
                    yield sample
                    sample = None
                sample = sample or Sample(tar, name[1])
                file = opened.extractfile(member) if read else None
                sample.members[name[2]] = b"" if file is None else file.read()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise GokuError(f"{tar} is cut or damaged ({error}); fetch it again") from error
    if sample is not None:
        yield sample
