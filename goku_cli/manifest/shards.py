"""Shards: safetensors files of named tensors beside the manifest, written once and read by memory map."""

import re
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from goku_cli.errors import GokuError
from goku_cli.manifest.store import Manifest, Row
from goku_cli.publish import publish, sha256

OWN = re.compile(r"[0-9a-f]{12}\.safetensors|\.[0-9a-f]{12}\.tmp-[0-9a-f]{8}\.safetensors")
"""What the files are called that `new_shard` makes, and those that it leaves when it is killed."""


def checksum(*arrays: np.ndarray) -> int:
    """Return the CRC-32 of the bytes of arrays, one after the other: what rows keep of their tensors."""
    crc = 0
    for x in arrays:
        crc = zlib.crc32(np.ascontiguousarray(x).data, crc)
    return crc


def new_shard(folder: Path, root: Path, tensors: Mapping[str, np.ndarray]) -> Row:
    """Publish a shard under a new name in `folder` and return its row; its path is that from `root`.

    Raises:
        GokuError: as `write_shard`.
    """
    path = folder / f"{uuid.uuid4().hex[:12]}.safetensors"
    return {"path": str(path.relative_to(root)), **write_shard(path, tensors)}


def write_shard(path: Path, tensors: Mapping[str, np.ndarray]) -> Row:
    """Publish one shard; the names are read back before it gets its final name.

    Returns its bytes and their SHA-256.

    Raises:
        GokuError: what was read back is not what was written.
    """
    about: Row = {}

    def verify(temporary: Path) -> None:
        with safe_open(temporary, framework="np") as file:
            if set(file.keys()) != set(tensors):
                raise GokuError(f"{path} was not written whole; is the disk full? run the same command again")
        about.update(bytes=temporary.stat().st_size, sha256=sha256(temporary))

    with publish(path, verify) as temporary:
        try:
            save_file(dict(tensors), temporary)
        except SafetensorError as error:
            raise GokuError(f"{path} could not be written ({error}); free space and run again") from error
        temporary.chmod(0o644)  # the library makes files that nobody else in the lab can read
    return about


def check_shards(manifest: Manifest, paths: Iterable[str]) -> None:
    """Refuse shards that are gone or have another size than they were written with (their bytes are not read).

    Raises:
        GokuError: with the first of them.
    """
    for row in manifest.matching("SELECT path, bytes FROM shards JOIN asked ON path = key", list(paths)):
        path = manifest.path.parent / row["path"]
        size = path.stat().st_size if path.exists() else None
        if size != row["bytes"]:
            what = "is gone" if size is None else f"has {size} bytes, not {row['bytes']}"
            raise GokuError(f"{path} {what}; make it again with the goku encode-latents that wrote it")


def remove_unnamed(manifest: Manifest, paths: Iterable[str]) -> int:
    """Delete those of the files `paths` that no row of `shards` names; return the bytes that this freed.

    Manifests of one folder may share files (a copy made with -o names those of the first), so the others are asked
    too; what one of them that cannot be read now might name is left.
    """
    root = manifest.path.parent
    unnamed = set(paths) - _named(manifest)
    for other in _neighbors(manifest.path) if unnamed else []:
        try:
            with Manifest(other, read_only=True) as opened:
                unnamed -= _named(opened)
        except GokuError:
            return 0
    files = [root / path for path in unnamed if (root / path).is_file()]
    freed = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    return freed


def _neighbors(path: Path) -> Iterator[Path]:
    """Yield the other DuckDB files of a manifest's folder."""
    for other in path.parent.iterdir():
        if other.is_file() and other.name != path.name:
            with other.open("rb") as file:
                if file.read(12)[8:] == b"DUCK":
                    yield other


def _named(manifest: Manifest) -> set[str]:
    return {row["path"] for row in manifest.query("SELECT path FROM shards")}


class ShardReader:
    """Random reads from a folder of shards; files stay open and mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, safe_open] = {}

    def read(self, shard: str, key: str) -> np.ndarray:
        """Return one tensor.

        Raises:
            GokuError: the shard is missing or damaged, or does not hold it.
        """
        path = self.folder / shard
        try:
            if shard not in self._open:
                self._open[shard] = safe_open(path, framework="np")
            return self._open[shard].get_tensor(key)
        except FileNotFoundError:
            raise GokuError(f"shard {path} is missing; make it again with: goku encode-latents") from None
        except SafetensorError as error:
            raise GokuError(f"shard {path} is damaged ({error}); remove it, then goku encode-latents") from error
