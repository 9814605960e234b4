"""Lists of media: a table with a column of paths or URLs, or one name per line on stdin. Read row by row."""

import csv
import json
import os
from collections.abc import Iterator
from typing import IO, Any

from goku_cli.errors import Cause, UsageError
from goku_cli.ingest.folder import suffix_of
from goku_cli.ingest.found import Found, scheme_of
from goku_cli.ingest.sidecar import MAX_CHARACTERS
from goku_cli.wording import clean

LISTS = frozenset([".csv", ".tsv", ".parquet", ".jsonl"])
NAMES = ("path", "file", "file_name", "video", "image", "url")
"""The column that says which file, the first that exists; upper and lower case are one."""
CAPTIONS = ("caption", "text")
MAX_LINE = 1 << 20
BATCH = 2048
Record = dict[str, Any]


def check_list(path: str) -> None:
    """Refuse a list in which no column names files.

    Raises:
        UsageError: with the columns that it has.
    """
    try:
        first = next(_records(path), {})
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a {suffix_of(path)[1:]} list: {error}") from error
    if first and not any(name in first for name in NAMES):
        raise UsageError(f"{path} has no column {', '.join(NAMES)}; it has: {', '.join(map(str, first))}")


def read_list(path: str) -> Iterator[Found]:
    """Yield what each row names; relative paths are relative to the list. A bad row is yielded with its fault."""
    number, folder = 0, os.path.dirname(os.path.abspath(path))
    try:
        for number, record in enumerate(_records(path), 1):
            yield _found(record, folder, f"{os.path.abspath(path)}!row {number}")
    except (OSError, ValueError) as error:
        where = f"{os.path.abspath(path)}!after row {number}"
        yield Found(where, fault=(Cause.UNREADABLE, str(error).splitlines()[0]))


def read_names(file: IO[bytes]) -> Iterator[str]:
    """Yield the names in a stream of bytes, one per line, or separated by NUL when there is one at all early on."""
    file.seek(0)
    mark = b"\0" if b"\0" in file.read(MAX_LINE) else b"\n"
    file.seek(0)
    rest = b""
    while block := file.read(MAX_LINE):
        *names, rest = (rest + block).split(mark)
        yield from (os.fsdecode(name) for raw in names if (name := raw.rstrip(b"\r")))
    if rest:
        yield os.fsdecode(rest.rstrip(b"\r"))


def _found(record: Record, folder: str, row: str) -> Found:
    name = next((str(record[key]) for key in NAMES if record.get(key)), None)
    if name is None:
        return Found(row, fault=(Cause.NAME, str(record.get("", "the row names no file"))))
    caption = next((str(record[key]) for key in CAPTIONS if record.get(key)), None)
    license, origin = (clean(str(record.get(key) or ""), MAX_CHARACTERS) or None for key in ("license", "origin"))
    where = name if scheme_of(name) else os.path.abspath(os.path.join(folder, name))
    return Found(where, caption, license, origin)


def _records(path: str) -> Iterator[Record]:
    for record in _READERS[suffix_of(path)](path):
        yield {str(key).lower(): value for key, value in record.items() if key is not None}


def _read_csv(path: str) -> Iterator[Record]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            yield from csv.DictReader(file, delimiter="\t" if suffix_of(path) == ".tsv" else ",")
        except csv.Error as error:
            raise ValueError(str(error)) from error


def _read_jsonl(path: str) -> Iterator[Record]:
    with open(path, "rb") as file:
        while line := file.readline(MAX_LINE):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            yield record if isinstance(record, dict) else {"": "the line is not a JSON object"}


def _read_parquet(path: str) -> Iterator[Record]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        wanted = {*NAMES, *CAPTIONS, "license", "origin"}
        columns = [name for name in file.schema_arrow.names if name.lower() in wanted] or file.schema_arrow.names
        for batch in file.iter_batches(BATCH, columns=columns):
            yield from batch.to_pylist()


_READERS = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
