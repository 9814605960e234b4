"""Official evaluators, run in an interpreter that the user names: every part in a process, with a log, once.

A part whose result is there, for the same samples, is not run again.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate.benchmarks.evaluators import Part

GRACE_SECONDS = 10.0
VERSION = "import importlib.metadata as m; print(m.version('{}'))"


def interpreter(python: str) -> str:
    """Return the path of the interpreter that the user named.

    Raises:
        UsageError: there is none.
    """
    found = shutil.which(python)
    if found is None:
        raise UsageError(
            f"no interpreter {python}; give the one of the evaluator's venv: --python /opt/vbench/bin/python"
        )
    return str(Path(found).absolute())  # not resolved: a venv's python is a link, and knows its venv by its own path


def tool_version(bench: str, python: str, tool: Path | None) -> str:
    """Return what ran: `vbench 0.1.5`, or a checkout's commit, as `geneval af4902f2`.

    Raises:
        UsageError: the interpreter has no vbench.
    """
    if bench == "vbench":
        done = _ask([python, "-c", VERSION.format("vbench")])
        if done is None:
            raise UsageError(f"{python} has no vbench; install it there: {python} -m pip install vbench==0.1.5")
        return f"vbench {done}"
    commit = _ask(["git", "-C", str(tool), "rev-parse", "--short=8", "HEAD"])
    return f"{bench} {commit or 'of unknown commit'}"


def run_parts(
    parts: list[Part], samples: str, logs: Path, timeout: float, say: Callable[[str], None]
) -> tuple[list[Part], list[str]]:
    """Run what is not there yet; return the parts that have results, and the names of those that have none.

    Args:
        samples: fingerprint of what is scored.
        timeout: seconds that each command may take.
        say: told in one line what was there, and what went wrong.
    """
    done, failed = [], []
    for part in parts:
        marker = part.result.with_suffix(".samples")
        if part.result.exists() and marker.exists() and marker.read_text() == samples:
            say(f"{part.name} was already there")
            done.append(part)
            continue
        try:
            _run(part, logs / f"{part.name}.log", timeout)
        except GokuError as error:
            failed.append(part.name)
            say(str(error))
            continue
        marker.write_text(samples)
        done.append(part)
    return done, failed


def _run(part: Part, log: Path, timeout: float) -> None:
    for leftover in part.fresh:
        shutil.rmtree(leftover, ignore_errors=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    part.result.unlink(missing_ok=True)
    with log.open("wb") as file:
        for command in part.commands:
            code = _call(command, part.folder, file.fileno(), timeout)
            if code is None:
                raise GokuError(f"{part.name} took longer than {timeout:g} s and was ended; its log: {log}")
            if code:
                raise GokuError(f"{part.name} ended with exit code {code}: {_last_line(log)}; its log: {log}")
    if not part.result.is_file():
        raise GokuError(f"{part.name} ended well and left no {part.result}; its log: {log}")


def _call(command: list[str], folder: Path, log: int, timeout: float) -> int | None:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    # A session of its own: evaluators have loader processes, which must go with them.
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                               stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(GRACE_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "it said nothing")


def _ask(command: list[str]) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None
