"""Shards: safetensors files of named tensors beside the manifest, written once and read by memory map."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from goku_cli.errors import GokuError
from goku_cli.publish import publish


def write_shard(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Publish one shard; the names are read back before it gets its final name.

    Raises:
        GokuError: what was read back is not what was written.
    """

    def verify(temporary: Path) -> None:
        with safe_open(temporary, framework="np") as file:
            if set(file.keys()) != set(tensors):
                raise GokuError(f"{path} was not written whole; is the disk full? run the same command again")

    with publish(path, verify) as temporary:
        try:
            save_file(dict(tensors), temporary)
        except SafetensorError as error:
            raise GokuError(f"{path} could not be written ({error}); free space and run again") from error
        temporary.chmod(0o644)  # the library makes files that nobody else in the lab can read


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
