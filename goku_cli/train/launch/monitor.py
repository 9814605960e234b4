"""Monitoring of a run by the launcher, from the files that the ranks write (train/logs/run_log.py)."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from goku_cli.jsonlines import entries
from goku_cli.stage import Progress
from goku_cli.train.logs.run_log import METRICS, START

GOOD_BALANCE = 0.9
START_SECONDS = 300.0
"""What ranks may take to their first step: to load libraries and a checkpoint on hundreds of nodes takes long."""


class Bar(Progress, Protocol):
    """The progress bar that a run moves; it also says the loss."""

    def describe(self, what: str) -> None: ...


class Monitor:
    """Follows a run's figures, events and heartbeats."""

    def __init__(self, run: Path, bar: Bar, say: Callable[[str], None]) -> None:
        self.run = run
        self.bar = bar
        self.say = say
        self._seen: dict[Path, int] = {}
        self._step = 0
        self._began = time.time()
        self._text: dict[str, str] = {}
        for path in run.glob("*.jsonl"):
            if path.name != METRICS:  # what an earlier command has told
                self._seen[path] = path.stat().st_size

    def begin(self) -> None:
        """A new start of the ranks: their last signs of life do not count."""
        self._began = time.time()

    def look(self) -> None:
        """Read what was appended since the last call."""
        for entry in self._lines(self.run / METRICS):
            self._show(entry)
        for path in sorted(self.run.glob("events-*.jsonl")):
            for entry in self._lines(path):
                self.say(f"train: {entry['event']}")

    def hung(self, limit: float) -> str:
        """Return which ranks hang, and where, when no heartbeat came for `limit` seconds."""
        beats = sorted(self.run.glob("beat-*"))
        ages = [(path.stat().st_mtime, path.read_text().split()[2:]) for path in beats]
        newest = max([self._began, *(at for at, _ in ages)])
        started = any(at > self._began and phase != [START] for at, phase in ages)
        if time.time() - newest < (limit if started else max(limit, START_SECONDS)):
            return ""
        places = []
        for path in beats:
            pid, step, phase = path.read_text().split()
            places.append(f"rank {int(path.name[5:])} in step {step} ({phase})")
            _show_stack(pid)
        return f"no heartbeat from any rank for {limit:g} s: {', '.join(places) or 'none has started'}"

    def _lines(self, path: Path) -> list[dict[str, Any]]:
        """Return the whole lines of a file that are new."""
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._seen.get(path, 0))
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._seen[path] = self._seen.get(path, 0) + len(text)
        return entries(text)

    def _show(self, entry: dict[str, Any]) -> None:
        for name, key, form in (
            ("loss", "loss", ".3f"), ("norm", "norm", ".2f"), ("held out", "held_out_loss", ".3f"),
            ("tokens/s", "tokens_per_second", ",.0f"), ("MFU", "mfu", ".0%"), ("data wait", "data_wait", ".1%"),
            ("balance", "balance", ".0%"),
        ):  # fmt: skip
            if key in entry:
                self._text[name] = f"{name} {entry[key]:{form}}"
        self.bar.advance(entry["step"] - self._step)
        self._step = entry["step"]
        self.bar.describe("  ".join(["train", *self._text.values()]))


def _show_stack(pid: str) -> None:
    """Let a rank of this machine write where it is into the log."""
    with suppress(OSError, ValueError):
        if b"goku_cli" in Path(f"/proc/{int(pid)}/cmdline").read_bytes():
            os.kill(int(pid), signal.SIGUSR1)
            time.sleep(0.2)


def balance(run: Path) -> str:
    """Return a sentence on how evenly a run's steps lay on the ranks, and what would help; nothing of a VAE's run."""
    lines = entries((run / METRICS).read_bytes())
    shares = [line["balance"] for line in lines if "balance" in line]
    if not shares:
        return ""
    mean = sum(shares) / len(shares)
    hints = [line["hint"] for line in lines if "hint" in line]
    help_ = f"; {hints[-1]}" if hints and mean < GOOD_BALANCE else ""
    return f"mean load balance {mean:.0%}{help_}"
