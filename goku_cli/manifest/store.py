"""The manifest: one DuckDB file that holds everything known about one data set.

Invariant: a row is visible only when what it points at exists, and an item's rows, its receipt and the removal
of its earlier rows are one transaction. `Manifest.verify()` re-derives this from the tables and the disk.

This module is the only one that imports duckdb. Rows go in through Arrow (a thousand times faster than
`executemany`) and come out as dictionaries, or as a DataFrame.
"""

import contextlib
import datetime
import importlib.resources
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from goku_cli.errors import GokuError, Held, UsageError
from goku_cli.manifest.beside import ENDING, true_path

Row = dict[str, Any]
Parameters = Sequence[Any] | Mapping[str, Any]
"""Values for `?` marks, or for `$name` marks."""
MEMORY = "3GB"
"""What DuckDB may hold before it spills to disk, beside the workers that decode."""
STREAMED = 2048
"""Rows of a streamed query that are in memory."""


def _migrations() -> list[tuple[int, str]]:
    folder = importlib.resources.files("goku_cli.manifest").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name.split("_")[0]), folder.joinpath(name).read_text(encoding="utf-8")) for name in names]


def _versions(*packages: str) -> dict[str, str]:
    """Return the versions of packages that are installed: a machine that only trains needs no media library."""
    found = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Manifest:
    """An open manifest. Use as a context manager: what another process may read is what was closed.

    Raises:
        UsageError: the file is missing (and `create` is not set), is not a manifest, or is of a newer schema.
        GokuError: another process holds it, or the disk is full.
    """

    def __init__(self, path: Path, *, create: bool = False, read_only: bool = False) -> None:
        path = true_path(path)
        if not create and not path.exists():
            raise UsageError(f"no manifest at {path}; make one with: goku ingest FOLDER -m {path}")
        if path.is_dir():
            raise UsageError(f"{path} is a folder, not a manifest; a manifest is one file such as my.duckdb")
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with translated(path):
            self.connection = duckdb.connect(str(path), read_only=read_only, config={"memory_limit": MEMORY})
            try:
                self._migrate(read_only)
            except BaseException:
                self.connection.close()
                raise
        self.run: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, so that other processes can open it."""
        with translated(self.path):
            self.connection.close()

    def _migrate(self, read_only: bool) -> None:
        tables = {name for (name,) in self.connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        if tables and "schema_version" not in tables:
            raise UsageError(f"{self.path} is a DuckDB file but not a goku manifest; choose another path")
        current = 0
        if tables:
            current = self.connection.execute("SELECT max(number) FROM schema_version").fetchall()[0][0] or 0
        steps = _migrations()
        if current > steps[-1][0]:
            raise UsageError(
                f"{self.path} has schema {current}, this goku knows {steps[-1][0]};"
                " upgrade with: pip install -U goku-cli"
            )
        pending = [step for step in steps if step[0] > current]
        if pending and read_only:
            raise UsageError(f"{self.path} has schema {current}; any writing command, e.g. goku split, migrates it")
        for number, script in pending:
            with self.transaction():
                self.connection.execute("CREATE TABLE IF NOT EXISTS schema_version (number INTEGER, applied TIMESTAMP)")
                self.connection.execute(script)
                self.connection.execute("INSERT INTO schema_version VALUES (?, now()::TIMESTAMP)", [number])
        if pending:
            self.connection.execute("CHECKPOINT")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, translated to a one-line error when the disk is full."""
        with translated(self.path):
            self.connection.execute("BEGIN")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(duckdb.Error):  # a failed commit has already rolled back
                    self.connection.execute("ROLLBACK")
                raise

    def query(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Return the rows of a query as dictionaries."""
        cursor = self.connection.execute(sql, _bound(parameters))
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]

    def stream(self, sql: str, parameters: Parameters = ()) -> Iterator[Row]:
        """Yield the rows of a query as it was when it began, a few thousand in memory at a time.

        It has a connection of its own, so that rows can be written meanwhile.
        """
        with self.connection.cursor() as cursor:
            result = cursor.execute(sql, _bound(parameters))
            names = [column[0] for column in result.description or []]
            while rows := result.fetchmany(STREAMED):
                for values in rows:
                    yield dict(zip(names, values, strict=True))

    def matching(self, sql: str, keys: Sequence[str], parameters: Parameters = ()) -> list[Row]:
        """Return the rows of a query that joins the table `asked` (key): each of `keys` once."""
        with self._asked(keys):
            return self.query(sql, parameters)

    def delete(
        self, table: str, column: str, keys: Sequence[str], where: str = "true", parameters: Parameters = ()
    ) -> None:
        """Delete the rows whose `column` is one of `keys`."""
        with self._asked(keys):
            self.execute(f'DELETE FROM "{table}" WHERE {where} AND "{column}" IN (SELECT key FROM asked)', parameters)

    @contextlib.contextmanager
    def _asked(self, keys: Sequence[str]) -> Iterator[None]:
        self.connection.register("asked", pa.table({"key": pa.array(dict.fromkeys(keys), pa.string())}))
        try:
            yield
        finally:
            self.connection.unregister("asked")

    def ask(self, sql: str) -> list[Row]:
        """Return the rows of a query that a user typed.

        Raises:
            UsageError: it does not run; with what DuckDB says of it.
        """
        try:
            return self.query(sql)
        except duckdb.Error as error:
            raise UsageError(f"that query does not run: {str(error).splitlines()[0]}") from error

    def value(self, sql: str, parameters: Parameters = ()) -> Any:
        """Return the single value of a query, or None when it has no row."""
        rows = self.connection.execute(sql, _bound(parameters)).fetchall()
        return rows[0][0] if rows else None

    def execute(self, sql: str, parameters: Parameters = ()) -> None:
        """Run a statement for its effect."""
        self.connection.execute(sql, _bound(parameters))

    def insert(self, table: str, rows: Iterable[Row]) -> None:
        """Append rows; a column that a row lacks is NULL, and `run` is the current run."""
        rows = [{"run": self.run, **row} for row in rows]
        if not rows:
            return
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = ", ".join(f'"{name}"' for name in names)
        arrow = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
        self.connection.register("incoming", arrow)
        self.connection.execute(f'INSERT INTO "{table}" ({columns}) SELECT {columns} FROM incoming')
        self.connection.unregister("incoming")

    def export(self, sql: str, path: Path, parameters: Parameters = ()) -> None:
        """Write a query's rows as a Parquet file (what worker processes read instead of the locked manifest)."""
        target = str(path).replace("'", "''")
        self.connection.execute(f"COPY ({sql}) TO '{target}' (FORMAT parquet)", _bound(parameters))

    def begin_run(self, command: str, arguments: Row) -> int:
        """Open a row in `runs`; every row written from now on names it."""
        self.run = (self.value("SELECT coalesce(max(id), 0) FROM runs")) + 1
        packages = {"python": platform.python_version(), **_versions("duckdb", "torch", "av", "scenedetect-headless")}
        with self.transaction():
            self.execute(
                "INSERT INTO runs (id, command, arguments, versions, host, started, status)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [self.run, command, json.dumps(arguments, default=str), json.dumps(packages), platform.node(),
                 datetime.datetime.now(), "running"],
            )  # fmt: skip
        return self.run

    def end_run(self, status: str, counts: Row, seconds: float, output: str | None = None) -> None:
        """Close the row that `begin_run` opened."""
        with self.transaction():
            self.execute(
                "UPDATE runs SET finished = ?, status = ?, counts = ?, seconds = ?, output = ? WHERE id = ?",
                [datetime.datetime.now(), status, json.dumps(counts), seconds, output, self.run],
            )
        with translated(self.path):
            self.execute("CHECKPOINT")

    def clip(self, start: str) -> Row:
        """Return the row of `clip_files` whose id begins with `start`.

        Raises:
            UsageError: there is none, or more than one.
        """
        found = self.query("SELECT * FROM clip_files WHERE starts_with(id, ?) ORDER BY id LIMIT 2", [start])
        if len(found) != 1:
            what = f"no clip {start}" if not found else f"more than one clip begins with {start}"
            raise UsageError(f"{what} in {self.path}; see: goku show {self.path} --sql 'SELECT id FROM clips'")
        return found[0]

    def selection(self, name: str | None) -> str:
        """Return the selection to work on: the one named, or the only or newest one there is.

        Raises:
            UsageError: there is none, or none of that name.
        """
        names = [row["name"] for row in self.query("SELECT name FROM selections GROUP BY name ORDER BY max(run) DESC")]
        if name is None and names:
            return str(names[0])
        if name is None or name not in names:
            known = f"has: {', '.join(names)}" if names else "has none yet; make one with: goku filter --tier 480p"
            raise UsageError(f"{self.path} {known}" if name is None else f'no selection "{name}"; {self.path} {known}')
        return name

    def verify(self) -> list[str]:
        """Return every broken invariant as one line; an empty list means that the manifest is sound."""
        checks = {
            "sources with one id": "SELECT id FROM sources GROUP BY id HAVING count(*) > 1",
            "clips with one id": "SELECT id FROM clips GROUP BY id HAVING count(*) > 1",
            "source paths listed twice": "SELECT path FROM source_paths GROUP BY path, item HAVING count(*) > 1",
            "clips of no known source": "SELECT id FROM clips WHERE source NOT IN (SELECT id FROM sources)",
            "clips that end before they start": "SELECT id FROM clips WHERE end_us < start_us",
            "scores given twice": "SELECT clip FROM scores GROUP BY clip, metric, scorer HAVING count(*) > 1",
            "scores of no known clip": "SELECT clip FROM scores WHERE clip NOT IN (SELECT id FROM clips)",
            "captions of no known clip": "SELECT clip FROM captions WHERE clip NOT IN (SELECT id FROM clips)",
            "tags of no known clip": "SELECT clip FROM tags WHERE clip NOT IN (SELECT id FROM clips)",
            "selected twice": "SELECT clip FROM selections GROUP BY name, clip HAVING count(*) > 1",
            "selected but unknown": "SELECT clip FROM selections WHERE clip NOT IN (SELECT id FROM clips)",
            "negative weights": "SELECT clip FROM selections WHERE weight < 0",
            "receipts given twice": "SELECT item FROM receipts GROUP BY stage, item HAVING count(*) > 1",
            "latents given twice": "SELECT clip FROM latents GROUP BY clip, start_us, flipped, encoder"
            " HAVING count(*) > 1",
            "latents of no known clip": "SELECT clip FROM latents WHERE clip NOT IN (SELECT id FROM clips)",
            "texts encoded twice": "SELECT text_id FROM text_states GROUP BY text_id, encoder HAVING count(*) > 1",
            "shards listed twice": "SELECT path FROM shards GROUP BY path HAVING count(*) > 1",
            "shards of no known size": "SELECT shard FROM latents WHERE shard NOT IN (SELECT path FROM shards)"
            " UNION SELECT shard FROM text_states WHERE shard NOT IN (SELECT path FROM shards)",
            "samples with one id": "SELECT id FROM samples GROUP BY id HAVING count(*) > 1",
        }
        broken = []
        for what, sql in checks.items():
            if rows := self.query(sql):
                broken.append(f"{len(rows)} {what}, e.g. {next(iter(rows[0].values()))}")
        for row in self.query("SELECT path, bytes FROM shards UNION ALL SELECT DISTINCT path, NULL FROM samples"):
            path = self.path.parent / row["path"]
            if not path.exists():
                broken.append(f"missing file {row['path']}")
            elif row["bytes"] is not None and path.stat().st_size != row["bytes"]:
                broken.append(f"{row['path']} has {path.stat().st_size} bytes, not {row['bytes']}")
        return broken


def _bound(parameters: Parameters) -> list[Any] | dict[str, Any]:
    return dict(parameters) if isinstance(parameters, Mapping) else list(parameters)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what DuckDB says of locks, foreign files and full disks into one line that says what to do."""
    try:
        yield
    except duckdb.Error as error:
        text = str(error)
        if holder := re.search(r"PID (\d+)", text):
            raise Held(f"{path} is held by process {holder[1]}; wait for it, or stop it, and run again") from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise GokuError(f"DuckDB ran out of memory on {path}: {text.splitlines()[0]}") from error
        if re.search(r"No space left|disk full|failed to write", text, re.IGNORECASE):
            raise GokuError(f"the disk of {path} is full; free space and run the same command again") from error
        torn = "not a valid DuckDB|version number|not read enough"
        if isinstance(error, duckdb.IOException) and re.search(torn, text):
            raise UsageError(f"{path} is not a manifest that this DuckDB can read: {text.splitlines()[0]}") from error
        raise
    except OSError as error:
        if error.errno == 28:
            raise GokuError(f"the disk of {path} is full; free space and run the same command again") from error
        raise


def parse_reference(text: str) -> tuple[Path, str | None]:
    """Split `PATH#NAME` into the manifest's path and the name of a selection or of a set of samples.

    A `#` may be in the path too: what is the path of a file, or ends as a manifest does, is a path, and no name holds
    a slash.
    """
    path, _, name = text.strip("\r\n").rpartition("#")
    whole = os.path.expanduser(text.strip("\r\n"))
    if "#" not in whole or "/" in name or name.endswith(ENDING) or os.path.exists(whole):
        path, name = whole, ""
    if not path.strip():
        raise UsageError("empty reference; expected PATH or PATH#SELECTION, e.g. manifests/my.duckdb#480p")
    return Path(os.path.expanduser(path)), name or None
