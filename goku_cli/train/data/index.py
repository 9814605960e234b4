"""The rows of a run's data as columns in files: every rank maps them, so that a node holds them once.

    RUN/data.parquet    what the manifest gave, a row a latent window
    RUN/index/          the same as bare numbers: rows.clip, rows.tokens, ..., texts.key, ..., and names.json

A row has its texts side by side in the columns of `texts`, from `first` on. Ids are the 16 bytes that their 32
hexadecimal digits name; files, shapes and captioners are numbers of lists in names.json.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from goku_cli.errors import GokuError
from goku_cli.model.network.packing import token_count
from goku_cli.publish import publish_folder

ROWS = {
    "clip": "V16", "start_us": "i8", "flipped": "?", "logvar": "?", "held_out": "?", "image": "?", "tokens": "u4",
    "shape": "u2", "weight": "f8", "shard": "u4", "crc": "u4", "first": "u8", "texts": "u2",
}  # fmt: skip
TEXTS = {"key": "V16", "shard": "u4", "crc": "u4", "tokens": "u4", "source": "u2"}
TABLES = {"rows": ROWS, "texts": TEXTS}
NEEDED = {"start_us", "flipped", "held_out"}
"""Columns that data.parquet has not, when an older goku wrote it."""
READ_ROWS = 1 << 17


class TensorRef(NamedTuple):
    """Where text states lie."""

    shard: str
    key: str
    crc: int
    """`manifest.shards.checksum` of them."""


@dataclass(frozen=True)
class Window:
    """Where a latent lies, and what it is."""

    clip: str
    key: str
    shard: str
    crc: int
    logvar: bool
    shape: tuple[int, int, int, int]


@dataclass(frozen=True)
class Index:
    """The columns, of N windows and their texts."""

    rows: Mapping[str, np.ndarray]
    texts: Mapping[str, np.ndarray]
    names: Mapping[str, Sequence[Any]]
    """`shards`, `shapes` and `sources` by number."""
    folder: Path | None = None
    """Where the columns are mapped from."""

    def __reduce__(self) -> Any:
        """Let another process map the files as well, in place of getting a copy of all rows."""
        return (Index.open, (self.folder,)) if self.folder else (Index, (self.rows, self.texts, self.names))

    @classmethod
    def open(cls, folder: Path) -> "Index":
        """Map the files of a folder.

        Raises:
            GokuError: they are not there, or not whole.
        """
        try:
            rows, texts = (
                {name: np.memmap(folder / f"{table}.{name}", kind, "r") for name, kind in columns.items()}
                for table, columns in TABLES.items()
            )
            return cls(rows, texts, json.loads((folder / "names.json").read_text()), folder)
        except (OSError, ValueError) as error:
            raise GokuError(f"{folder} is not whole ({error}); remove it and start the run again") from error

    def __len__(self) -> int:
        return len(self.rows["tokens"])

    def window(self, row: int) -> Window:
        """Return what lies in a row."""
        of = self.rows
        clip = of["clip"][row].tobytes().hex()
        key = f"{clip}-{of['start_us'][row]}{'-flipped' if of['flipped'][row] else ''}"
        shape = self.names["shapes"][of["shape"][row]]
        shard = self.names["shards"][of["shard"][row]]
        return Window(clip, key, shard, int(of["crc"][row]), bool(of["logvar"][row]), tuple(shape))

    def text(self, number: int) -> TensorRef:
        """Return where the text states of a number lie."""
        of = self.texts
        shard = self.names["shards"][of["shard"][number]]
        return TensorRef(shard, of["key"][number].tobytes().hex(), int(of["crc"][number]))


def write_index(parquet: Path, folder: Path) -> None:
    """Write the columns of a Parquet file into a new folder, some rows at a time."""
    known: dict[str, dict[Any, int]] = {"shards": {}, "shapes": {}, "sources": {}}
    with publish_folder(folder) as temporary, ExitStack() as stack:
        names = [f"{table}.{name}" for table, columns in TABLES.items() for name in columns]
        files = {name: stack.enter_context((temporary / name).open("wb")) for name in names}
        for part in _parts(pq.ParquetFile(parquet).iter_batches(READ_ROWS), known):
            for table, values in zip(TABLES, part, strict=True):
                for name, kind in TABLES[table].items():
                    files[f"{table}.{name}"].write(values[name].astype(kind).tobytes())
        (temporary / "names.json").write_text(json.dumps({name: list(values) for name, values in known.items()}))


Part = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def _parts(batches: Iterator[pa.RecordBatch], known: dict[str, dict[Any, int]]) -> Iterator[Part]:
    """Yield the columns of rows and texts, batch by batch; names get their numbers as they come."""
    before = 0
    for batch in batches:
        keys = batch["text_keys"]
        counts = np.diff(keys.offsets.to_numpy())
        shape = _numbered(batch["shape"].cast(pa.list_(pa.int32())), known["shapes"])
        shapes = np.array(list(known["shapes"]))
        texts = {
            "key": _ids(keys.flatten()), "shard": _numbered(batch["text_shards"].flatten(), known["shards"]),
            "crc": batch["text_crcs"].flatten().to_numpy(), "tokens": batch["text_tokens"].flatten().to_numpy(),
            "source": _numbered(batch["text_sources"].flatten(), known["sources"]),
        }  # fmt: skip
        yield {
            "clip": _ids(batch["clip"]), "start_us": batch["start_us"].to_numpy(),
            "flipped": batch["flipped"].to_numpy(zero_copy_only=False),
            "logvar": batch["logvar"].to_numpy(zero_copy_only=False),
            "held_out": batch["held_out"].to_numpy(zero_copy_only=False), "image": shapes[shape, 1] == 1,
            "tokens": np.array([token_count(x) for x in shapes])[shape], "shape": shape,
            "weight": batch["weight"].to_numpy(), "shard": _numbered(batch["shard"], known["shards"]),
            "crc": batch["crc"].to_numpy(), "first": before + np.cumsum(counts) - counts, "texts": counts,
        }, texts  # fmt: skip
        before += int(counts.sum())


def _ids(column: pa.Array) -> np.ndarray:
    return np.frombuffer(bytes.fromhex("".join(column.to_pylist())), "V16")


def _numbered(column: pa.Array, known: dict[Any, int]) -> np.ndarray:
    """Return the numbers of a column's values, which are few; new ones get the next."""
    if pa.types.is_list(column.type):
        width = len(column[0])
        values, inverse = np.unique(column.flatten().to_numpy().reshape(-1, width), axis=0, return_inverse=True)
        told = [tuple(map(int, value)) for value in values]
    else:
        encoded = column.dictionary_encode()
        told, inverse = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    numbers = np.array([known.setdefault(value, len(known)) for value in told])
    return numbers[inverse.reshape(-1)]
