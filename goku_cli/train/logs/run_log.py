"""Log files of a run, in its folder, which the launcher and people read.

metrics.jsonl        a line of figures every few steps, from the first rank
events-00000.jsonl   what went wrong and what was done about it, from each rank
beat-00000           the step and the phase that a rank is in; its age tells whether it hangs
losses/*.parquet     a row per sample, from each rank: see the table `losses` in manifests/README.md
stop                 made by whoever wants the run to save and end
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goku_cli.train.logs.loggers import Board

METRICS = "metrics.jsonl"
STOP = "stop"
LOSSES = "losses"
BEAT_BYTES = 64
START = "start"
"""The phase before a rank's first step."""
REFUSED = 2
"""Exit status of a rank that cannot go on, and would fail again."""
REFUSAL = "GokuError: "
"""What its last line of the log begins with."""


class RunLog:
    """One rank's pen."""

    def __init__(self, run: Path, rank: int, boards: Sequence[Board] = ()) -> None:
        self.run = run
        self.rank = rank
        self._boards = list(boards) if rank == 0 else []
        self._beat = os.open(run / f"beat-{rank:05d}", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)

    def beat(self, step: int, phase: str) -> None:
        """Say that this rank is alive, and what it does; in place, since to open a file takes milliseconds."""
        os.pwrite(self._beat, f"{os.getpid()} {step} {phase}".ljust(BEAT_BYTES).encode(), 0)

    def metrics(self, step: int, figures: Mapping[str, Any]) -> None:
        """Append a line of figures (first rank only)."""
        if self.rank == 0:
            self._append(self.run / METRICS, {"step": step, "at": time.time(), **figures})
        numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
        for board in self._boards.copy():
            try:
                board.write(step, numbers)
            except Exception as error:  # whatever it is, the run is worth more
                self.event(step, f"{board.name} gets no more figures: {error}")
                self._boards.remove(board)

    def event(self, step: int, what: str) -> None:
        """Append what happened."""
        line = {"step": step, "at": time.time(), "rank": self.rank, "event": what}
        self._append(self.run / f"events-{self.rank:05d}.jsonl", line)

    def losses(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Write the samples since the last checkpoint; a resumed run writes the same file again."""
        import pandas as pd

        if rows:
            folder = self.run / LOSSES
            folder.mkdir(exist_ok=True)
            pd.DataFrame(rows).to_parquet(folder / f"step-{step:06d}-rank-{self.rank:05d}.parquet")

    def _append(self, path: Path, line: Mapping[str, Any]) -> None:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def forget_after(run: Path, step: int) -> None:
    """Remove the losses of steps after this one, which will be made again."""
    for path in (run / LOSSES).glob("step-*.parquet"):
        if int(path.stem.split("-")[1]) > step:
            path.unlink()
