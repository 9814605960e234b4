"""`goku train` of a manifest that was made here, watched while it goes."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

POLL_SECONDS = 0.5


class Training:
    """A training that was started, with what it logs."""

    def __init__(self, recipe: Path, manifest: Path, runs: Path, log: Path) -> None:
        words = [sys.executable, "-m", "goku_cli", "train", str(recipe), str(manifest), "--runs", str(runs)]
        self._log = log
        self._output = log.open("ab")
        self._runs = runs
        self._process = subprocess.Popen([*words, "--ranks", "1"], stdout=self._output, stderr=self._output)

    @property
    def run(self) -> Path | None:
        """Its folder, once there is one; the newest where there are several."""
        found = sorted(self._runs.glob("*/recipe.json"), key=lambda path: path.stat().st_mtime)
        return found[-1].parent if found else None

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of figures that it has logged, those of the loop alone."""
        path = self.run and self.run / "metrics.jsonl"
        text = path.read_text() if path and path.exists() else ""
        rows = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [row for row in rows if "tokens_per_second" in row]

    def wait(self, seconds: float, enough: int = 0) -> Iterator[None]:
        """Yield until it ends, the time is over or, where `enough` is given, so many lines are logged.

        Raises:
            RuntimeError: it ended badly.
        """
        end = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < end and not (enough and len(self.lines()) >= enough):
            time.sleep(POLL_SECONDS)
            yield
        if self._process.poll():
            lines = self._log.read_text(errors="replace").strip().splitlines()
            raise RuntimeError(f"goku train ended with {self._process.returncode}: {lines[-1][:200] if lines else ''}")

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """End it with the launcher and the ranks that it started, which have sessions of their own."""
        with contextlib.suppress(psutil.NoSuchProcess):
            started = psutil.Process(self._process.pid)
            for process in [started, *started.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait()
        self._output.close()
