"""Shards: safetensors files of named tensors beside the manifest, written once and read by memory map."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from goku_cli.errors import GokuError
from goku_cli.manifest.store import Manifest, Row
from goku_cli.publish import publish, sha256


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


class ShardReader:
    """Random reads from a folder of shards; files stay open and mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, safe_open] = {}

    def read(self, shard: str, key: str) -> np.ndarray:
        """Return one tensor.

        Raises:
            GokuError: the shard is missing.
        """
        if shard not in self._open:
            path = self.folder / shard
            if not path.exists():
                raise GokuError(f"shard {path} is missing; make it again with: goku encode-latents")
            self._open[shard] = safe_open(path, framework="np")
        return self._open[shard].get_tensor(key)
