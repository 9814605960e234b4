"""Lists of media: a table with a column of paths or URLs, or one name per line on stdin. Read row by row."""

import json
import os
from collections.abc import Iterator
from typing import IO, Any

from goku_cli.errors import Cause, UsageError
from goku_cli.ingest.folder import suffix_of
from goku_cli.ingest.found import Found, scheme_of
from goku_cli.ingest.sidecar import CAPTIONS, caption_of, line_of
from goku_cli.ingest.tables import MAX_LINE, Table, WrongRow
from goku_cli.media.probing.suffixes import MEDIA_SUFFIXES
from goku_cli.wording import encoding_of

LISTS = frozenset([".csv", ".tsv", ".parquet", ".jsonl"])
NAMES = ("path", "file", "file_name", "video", "image", "url")
"""The column that says which file, the first that exists; upper and lower case are one."""
BATCH = 2048
Record = dict[str, Any]
FAULT = ""
"""The key of a record that is no row, and why."""


def check_list(path: str, encoding: str = "utf-8") -> None:
    """Refuse a list in which no column names files.

    Raises:
        UsageError: with the columns that it has.
    """
    try:
        first = next(_records(path, encoding), {})
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a {suffix_of(path)[1:]} list: {error}") from error
    if first and not any(name in first for name in NAMES):
        raise UsageError(f"{path} has no column {', '.join(NAMES)}; it has: {', '.join(map(str, first))}")


def read_list(path: str, encoding: str = "utf-8") -> Iterator[Found]:
    """Yield what each row names; relative paths are relative to the list. A bad row is yielded with its fault."""
    number, folder = 0, os.path.dirname(os.path.abspath(path))
    try:
        for number, record in enumerate(_records(path, encoding), 1):
            yield _found(record, folder, f"{os.path.abspath(path)}!row {number}")
    except (OSError, ValueError) as error:
        where = f"{os.path.abspath(path)}!after row {number}"
        yield Found(where, fault=(Cause.UNREADABLE, str(error).partition("\n")[0]))


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
    if FAULT in record:
        return Found(row, fault=(Cause.NAME, str(record[FAULT])))
    name = next((record[key] for key in NAMES if not _missing(record.get(key))), None)
    if isinstance(name, dict):  # as `datasets` writes its images
        name = name.get("path") or name
    if not isinstance(name, str):
        said = "the row names no file" if name is None else f"a file's name is a text, not {name!r:.60}"
        return Found(row, fault=(Cause.NAME, said))
    caption, wrong = next((caption_of(record[key]) for key in CAPTIONS if not _missing(record.get(key))), (None, None))
    license, origin = (line_of(record.get(key)) for key in ("license", "origin"))
    if scheme_of(name.strip()):
        name = name.strip()
    where = name if scheme_of(name) else os.path.abspath(os.path.join(folder, name))
    return Found(where, caption, license, origin, wrong=wrong)


def _missing(value: Any) -> bool:
    return value is None or value == "" or value != value


def _records(path: str, encoding: str) -> Iterator[Record]:
    for record in _READERS[suffix_of(path)](path, encoding):
        yield {str(key).lower(): value for key, value in record.items() if key is not None}


def _lines(path: str, encoding: str) -> Iterator[str]:
    r"""Yield the lines of a text file, which end at \n alone, with halves of characters for bytes that are no text.

    Of a line that is longer than MAX_LINE characters comes the beginning, MAX_LINE characters long.
    """
    with open(path, "rb") as start:
        found = encoding_of(start.read(4), encoding)
    errors = "replace" if found.startswith(("utf-16", "utf-32")) else "surrogateescape"
    with open(path, encoding=found, errors=errors, newline="\n") as file:
        while line := file.readline(MAX_LINE):
            if len(line) == MAX_LINE and not line.endswith("\n"):
                while (rest := file.readline(MAX_LINE)) and not rest.endswith("\n"):
                    pass
            yield line


def _read_csv(path: str, encoding: str) -> Iterator[Record]:
    table = Table(_lines(path, encoding), NAMES, _names_medium, tabs=suffix_of(path) == ".tsv")
    for row in table.rows():
        yield {FAULT: str(row)} if isinstance(row, WrongRow) else row


def _names_medium(cell: str) -> bool:
    return scheme_of(cell) is not None or suffix_of(cell) in MEDIA_SUFFIXES


def _read_jsonl(path: str, encoding: str) -> Iterator[Record]:
    for number, line in enumerate(_lines(path, encoding), 1):
        if not line.strip():
            continue
        if not _encodable(line):
            yield {FAULT: f"line {number} is in another encoding (--encoding names it)"}
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        yield record if isinstance(record, dict) else {FAULT: "the line is not a JSON object"}


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_parquet(path: str, _encoding: str) -> Iterator[Record]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        wanted = {*NAMES, *CAPTIONS, "license", "origin"}
        columns = [name for name in file.schema_arrow.names if name.lower() in wanted] or file.schema_arrow.names
        for batch in file.iter_batches(BATCH, columns=columns):
            yield from batch.to_pylist()


_READERS = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
