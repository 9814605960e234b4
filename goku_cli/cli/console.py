"""Talking to people and to pipes: stdout is one reference, stderr is everything else."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from goku_cli.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from goku_cli.manifest.store import Manifest
    from goku_cli.stage import Outcome

PIPE_WIDTH = 240
"""Columns of a table that goes to a file or a pipe, where nothing says how wide it may be."""


def _width(stream: TextIO | None) -> int | None:
    return None if stream is not None and stream.isatty() else PIPE_WIDTH


stderr = Console(stderr=True, highlight=False, soft_wrap=True, width=_width(sys.stderr))
stdout = Console(highlight=False, width=_width(sys.stdout))


class _Rate(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Any) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f}/s")


class Bar:
    """A progress bar with rate and ETA on a terminal, and silence elsewhere."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(),
            TimeElapsedColumn(), TimeRemainingColumn(),
            console=stderr, disable=not stderr.is_terminal,
        )  # fmt: skip
        self._task: TaskID | None = None

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def start(self, what: str, total: int) -> None:
        """Begin a new bar of `total` steps."""
        self._task = self._bar.add_task(escape(what), total=total)

    def advance(self, count: int = 1) -> None:
        """Move the newest bar."""
        if self._task is not None:
            self._bar.advance(self._task, count)

    def describe(self, what: str) -> None:
        """Change what the newest bar says (loss, reason, ...)."""
        if self._task is not None:
            self._bar.update(self._task, description=escape(what))


def say(text: str) -> None:
    """Write one line of talk to stderr; markup in names is harmless, control characters are shown."""
    stderr.print(visible(text), markup=False)


def renamed(old: str, new: str) -> None:
    """Name the command that replaces an old spelling, which works for one more version."""
    say(f"{old} is now: {new}")


def visible(text: str) -> str:
    """Show control characters as codes: what a file is called must not move the cursor."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def table(title: str, columns: list[str], rows: list[list[Any]], *, to: Console = stderr) -> None:
    """Write a table to stderr, or to `stdout` when looking at it is what the command is for."""
    grid = Table(title=escape(title), title_justify="left", show_edge=False)
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        grid.add_column(escape(column), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(escape(_cell(value)) for value in row))
    to.print(grid)


def write_rows(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    """Write rows of one table to stdout: as JSON, or to be looked at."""
    if as_json:
        sys.stdout.write(json.dumps(rows, default=str) + "\n")
    elif rows:
        table(title, list(rows[0]), [list(row.values()) for row in rows], to=stdout)
    else:
        say(f"no {title or 'rows'}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else visible(str(value))


def reference_from(argument: str | None) -> str:
    """Return the reference that was typed or, when none was and stdin is a pipe, the line read from it.

    Raises:
        UsageError: nothing was typed and stdin is a terminal, or the stage before printed nothing.
    """
    if argument is not None:
        return argument
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("no manifest given; name one (e.g. manifests/my.duckdb) or pipe a command into this one")
    line = sys.stdin.readline().strip("\r\n")
    if not line:
        error = UsageError("nothing came through the pipe: the command before this one failed")
        error.exit_code = 1
        raise error
    if line.startswith("{"):
        return str(json.loads(line)["reference"])
    return line


def emit(reference: str, summary: dict[str, Any], as_json: bool) -> None:
    """Write the one line of stdout: the reference, or with --json the summary that holds it."""
    line = json.dumps({"reference": reference, **summary}, default=str) if as_json else reference
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass
class Session:
    """One command at work on an open manifest."""

    manifest: "Manifest"
    name: str | None
    """What stood behind `#` in the reference."""
    bar: Bar
    counts: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    """What goes to stdout when all is durable; the manifest itself unless a command says otherwise."""

    def count(self, outcome: "Outcome", what: str) -> None:
        """Note and say how a stage went."""
        self.counts.update(done=outcome.done, partial=outcome.partial, failed=outcome.failed, skipped=outcome.skipped)
        text = f"{what}: {outcome.done} done"
        if outcome.skipped:
            text += f", {outcome.skipped} were already done"
        if outcome.partial:
            text += f", {outcome.partial} of them in part"
        if outcome.failed:
            text += f", {outcome.failed} failed"
        if outcome.partial or outcome.failed:
            text += f" (goku show {self.manifest.path} --failures)"
        say(text)


@contextlib.contextmanager
def working(
    command: str, reference: str | None, *, arguments: dict[str, Any], output: Path | None = None,
    create: bool = False, as_json: bool = False,
) -> Iterator[Session]:  # fmt: skip
    """Open the referenced manifest (or a copy at `output`), record the run, and print the reference at the end.

    The reference is printed after the manifest was closed, so the next command of a pipe can open it.
    """
    from goku_cli.manifest.store import Manifest, parse_reference

    path, name = (Path(reference_from(reference)), None) if create else parse_reference(reference_from(reference))
    if output is not None:
        path = _copy(path, output)
    started = time.monotonic()
    with Manifest(path, create=create) as manifest:
        session = Session(manifest, name, Bar(), output=str(path))
        manifest.begin_run(command, arguments)
        try:
            with session.bar:
                yield session
        except BaseException as error:
            status = "interrupted" if isinstance(error, Interrupted) else f"failed: {error}"
            with contextlib.suppress(Exception):  # the first error is the one to report
                manifest.end_run(status, session.counts, time.monotonic() - started)
            raise
        manifest.end_run("ok", session.counts, time.monotonic() - started, session.output)
    summary = {"command": command, "seconds": round(time.monotonic() - started, 3), **session.counts}
    emit(session.output, summary, as_json)


def _copy(path: Path, output: Path) -> Path:
    from goku_cli.manifest.store import Manifest
    from goku_cli.publish import publish

    if output.resolve().parent != path.resolve().parent:
        raise UsageError(
            f"-o must be in the folder of {path}, beside which its latents lie; e.g. -o {path.parent}/new.duckdb"
        )
    if output.exists():
        raise UsageError(f"{output} exists; remove it, or name another copy")
    Manifest(path).close()  # folds an unfinished log into the file, and fails when somebody else holds it
    with publish(output) as temporary:
        shutil.copyfile(path, temporary)
    return output


def calm_libraries() -> None:
    """Keep third-party libraries from writing hints to the terminal, and idle threads from spinning."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Free on a quiet machine, and nearly twice as fast beside a busy neighbor (bench/RESULTS.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
