"""The `goku` program inside the test's own process, which has torch loaded already."""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from goku_cli.cli.app import main


@dataclass(frozen=True)
class Finished:
    """As subprocess.run returns it."""

    returncode: int
    stdout: str
    stderr: str


def goku(folder: Path, *words: str, stdin: str | None = None) -> Finished:
    """Run a command in a folder; without `stdin` there is no pipe."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    given = io.StringIO(stdin or "")
    given.isatty = lambda: stdin is None
    with (
        contextlib.chdir(folder), patch.object(sys, "argv", ["goku", *words]), patch.object(sys, "stdin", given),
        contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
    ):  # fmt: skip
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Finished(code, out.getvalue(), err.getvalue())
