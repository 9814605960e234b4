"""Spawn the `deepspeed` launcher for a prepared run, and watch it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from goku_cli.errors import GokuError
from goku_cli.model import checkpoint
from goku_cli.stage import Progress
from goku_cli.train.plan import Run
from goku_cli.train.settings import Optimization

POLL_SECONDS = 0.5
GRACE_SECONDS = 20
MAX_CPU_RANKS = 4
GOOD_BALANCE = 0.9


class Bar(Progress, Protocol):
    """The progress bar that a run moves; it also says the loss."""

    def describe(self, what: str) -> None: ...


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def gpus() -> int:
    """Return how many GPUs a run can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def attention_kernel(settings: Optimization) -> str:
    """Return the name of the kernel that attention will run with.

    Raises:
        UsageError: the one that the recipe names is unknown, or does not run here.
    """
    import torch

    from goku_cli.model.attention import resolve

    dtype = torch.bfloat16 if settings.bf16 else torch.float32
    return resolve(settings.attention, "cuda" if gpus() else "cpu", dtype)


def default_ranks() -> int:
    """Return one rank per GPU or, without one, a rank per core up to four.

    On a CPU, ranks of one thread beat one rank of many: threads meet after every matrix product, ranks once a step,
    and a busy neighbour on one core holds up every meeting (measured: 20 times slower).
    """
    return gpus() or min(len(os.sched_getaffinity(0)), MAX_CPU_RANKS)


def command(run: Run, ranks: int) -> list[str]:
    """Return the launcher's argument list."""
    return [
        sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", str(ranks),
        "--master_addr", "127.0.0.1", "--master_port", str(free_port()),
        "--module", "goku_cli.train.worker", str(run.folder.absolute()),
    ]  # fmt: skip


def environment(ranks: int) -> dict[str, str]:
    """Return the environment of the ranks; without a GPU they share the cores."""
    values = dict(os.environ)
    # The launcher starts the ranks with this interpreter, also when its venv is not activated.
    values["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{values.get('PATH', '')}"
    if not gpus():
        threads = str(max(1, len(os.sched_getaffinity(0)) // ranks))
        values |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": threads, "GOKU_THREADS": threads}
    return values


def launch(run: Run, *, ranks: int, bar: Bar) -> Path:
    """Train to the last step and return its checkpoint. A run that is finished starts nothing.

    Raises:
        GokuError: a rank failed; the message is its last line, all of it is in the run's `launch.log`.
    """
    if run.finished:
        return run.finished
    log = run.folder / "launch.log"
    metrics = Metrics(run.folder / "metrics.jsonl")
    bar.start("train", run.recipe.train.steps)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command(run, ranks), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=environment(ranks), start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                metrics.show(bar)
        except BaseException:
            _stop(process)
            raise
    metrics.show(bar)
    if process.returncode or not run.finished:
        raise GokuError(f"training stopped: {_last_error(log)}; the whole log is {log}")
    return run.finished


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the launcher and every rank, gently and then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


def _last_error(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line and "ChildFailedError" not in line]
    return (errors or lines or ["no output"])[-1][-300:]


class Metrics:
    """Follows metrics.jsonl and moves a progress bar."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = 0
        self._step = 0
        self._text = {"loss": "", "held out": ""}

    def show(self, bar: Bar) -> None:
        """Read what was appended since the last call."""
        if not self.path.exists():
            return
        lines = self.path.read_text().splitlines()
        for line in lines[self._seen :]:
            entry: dict[str, Any] = json.loads(line)
            for name, key in (("loss", "loss"), ("held out", "held_out_loss")):
                if key in entry:
                    self._text[name] = f"{name} {entry[key]:.3f}"
            bar.advance(entry["step"] - self._step)
            self._step = entry["step"]
        self._seen = len(lines)
        bar.describe(" ".join(["train", *(text for text in self._text.values() if text)]))


def balance(run: Run) -> str:
    """Return a sentence on how evenly the run's steps lay on the ranks, and what would help; nothing of a VAE's run."""
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    shares = [line["balance"] for line in lines if "balance" in line]
    if not shares:
        return ""
    mean = sum(shares) / len(shares)
    hints = [line["hint"] for line in lines if "hint" in line]
    help_ = f"; {hints[-1]}" if hints and mean < GOOD_BALANCE else ""
    return f"the ranks' work was balanced to {mean:.0%}{help_}"


def last_figures(folder: Path) -> dict[str, float]:
    """Return the figures that a checkpoint's run ended with."""
    return dict(checkpoint.read_config(folder).get("figures", {}))
