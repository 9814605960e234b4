"""Spawn the `deepspeed` launcher for a prepared run, watch it, and start it again when a rank died or hangs."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from goku_cli.compiler import cxx_compiler
from goku_cli.errors import GokuError, Interrupted, UsageError
from goku_cli.model.network.ulysses import check_degree
from goku_cli.model.weights import checkpoint
from goku_cli.train.launch.hostfile import check_hosts, read_hosts
from goku_cli.train.launch.monitor import Bar, Monitor
from goku_cli.train.logs.run_log import REFUSAL, REFUSED, STOP
from goku_cli.train.prepare import Run
from goku_cli.train.recipe import TrainConfig, check_shard_group

POLL_SECONDS = 0.5
GRACE_SECONDS = 20
STOP_SECONDS = 600
"""How long a run that was asked to stop may take for its last step and checkpoint."""
MAX_CPU_RANKS = 4


@dataclass(frozen=True)
class Launch:
    """How a run is started."""

    ranks: int = 0
    """Processes on each node; 0: `default_ranks`, or what the hostfile says."""
    hostfile: Path | None = None
    """Lines `HOST slots=N`, as the deepspeed launcher reads them."""
    port: int = 0
    """Where the ranks meet; 0 takes a free one."""

    def check(self) -> None:
        """Find out what would fail before anything is started.

        Raises:
            UsageError: a host cannot be reached, or the port is in use.
        """
        if self.hostfile is not None:
            check_hosts(self.hostfile)
        if self.port and not _free(self.port):
            raise UsageError(f"port {self.port} is in use; give another --port, or none for one that is free")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def gpus() -> int:
    """Return how many GPUs a run can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def attention_kernel(settings: TrainConfig) -> str:
    """Return the name of the kernel that attention will run with.

    Raises:
        UsageError: the one that the recipe names is unknown, or does not run here.
    """
    import torch

    from goku_cli.model.network.attention import resolve

    dtype = torch.bfloat16 if settings.bf16 else torch.float32
    return resolve(settings.attention, "cuda" if gpus() else "cpu", dtype)


def check_compiler(settings: TrainConfig) -> None:
    """Refuse a recipe whose blocks cannot be compiled here.

    Raises:
        UsageError: it wants that, and this machine has no C++ compiler.
    """
    if settings.compile and cxx_compiler() is None:
        raise UsageError("train.compile needs a C++ compiler, and there is none here; install g++, or set it to false")


def default_ranks() -> int:
    """Return one rank per GPU or, without one, a rank per core up to four.

    On a CPU, ranks of one thread beat one rank of many: threads meet after every matrix product, ranks once a step,
    and a busy neighbour on one core holds up every meeting (measured: 20 times slower).
    """
    return gpus() or min(len(os.sched_getaffinity(0)), MAX_CPU_RANKS)


def command(run: Run, how: Launch) -> list[str]:
    """Return the launcher's argument list."""
    words = [sys.executable, "-m", "deepspeed.launcher.runner", "--master_port", str(how.port or free_port())]
    if how.hostfile is not None:
        words += ["--hostfile", str(how.hostfile.absolute())]
        words += ["--num_gpus", str(how.ranks)] if how.ranks else []
    else:
        words += ["--num_gpus", str(how.ranks), "--master_addr", "127.0.0.1"]
    return [*words, "--module", "goku_cli.train.trainer", str(run.folder.absolute())]


def environment(ranks: int) -> dict[str, str]:
    """Return the environment of the ranks; without a GPU they share the cores."""
    values = dict(os.environ)
    # The launcher starts the ranks with this interpreter, also when its venv is not activated.
    values["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{values.get('PATH', '')}"
    if not gpus():
        threads = str(max(1, len(os.sched_getaffinity(0)) // max(ranks, 1)))
        values |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": threads, "GOKU_THREADS": threads}
    return values


def launch(run: Run, how: Launch, *, bar: Bar, say: Callable[[str], None]) -> Path:
    """Train to the last step and return its checkpoint. A run that is finished starts nothing.

    A rank that died or hangs ends the others, and all are started again from the newest checkpoint, as often as the
    recipe's [faults] allows.

    Raises:
        UsageError: the packs, or the weights, cannot be split over so many ranks.
        GokuError: it happened too often, or a rank said that it would happen again; the message is that rank's last
            line, all of it is in the run's `launch.log`.
        Interrupted: the user asked to stop; a checkpoint of the last step was written.
    """
    if run.finished:
        return run.finished
    _check_ranks(run, how)
    watch = Monitor(run.folder, bar, say)
    bar.start("train", run.recipe.train.steps)
    restarts = 0
    while True:
        problem, final = _attempt(run, how, watch)
        if run.finished:
            return run.finished
        if final or restarts == run.recipe.faults.restarts:
            raise GokuError(f"training stopped: {problem}; the whole log is {run.folder / 'launch.log'}")
        restarts += 1
        say(f"train: {problem}; starting again from the newest checkpoint ({restarts} of {run.recipe.faults.restarts})")


def _check_ranks(run: Run, how: Launch) -> None:
    """Refuse a number of ranks over which packs or weights cannot be split, before any is started."""
    ranks = how.ranks
    if how.hostfile is not None:
        ranks = sum(min(slots, how.ranks or slots) for slots in read_hosts(how.hostfile).values())
    if run.recipe.kind == "flow":
        heads = json.loads((run.folder / "recipe.json").read_text())["model"]["heads"]
        check_degree(run.recipe.parallel.sequence, heads, ranks)
    check_shard_group(run.recipe.parallel, ranks)


def _attempt(run: Run, how: Launch, watch: Monitor) -> tuple[str, bool]:
    """Run all ranks to their end; return what went wrong, and whether it would happen again."""
    log = run.folder / "launch.log"
    watch.begin()
    with log.open("ab") as output:
        size = log.stat().st_size
        process = subprocess.Popen(
            command(run, how), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(how.ranks),
            start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                watch.look()
                if hung := watch.hung(run.recipe.faults.hang_seconds):
                    _stop(process, signal.SIGKILL)
                    return hung, False
        except Interrupted:
            _ask_to_stop(run, process, watch)
            raise
        except BaseException:
            _stop(process)
            raise
    watch.look()
    return _last_error(log, size), process.returncode == REFUSED


def _ask_to_stop(run: Run, process: "subprocess.Popen[bytes]", watch: Monitor) -> None:
    """Let the ranks finish their step and save; a second interrupt, or ranks that do not, end them at once."""
    watch.say("train: saving a checkpoint of the last step; interrupt again to end without one")
    (run.folder / STOP).touch()
    deadline = time.monotonic() + STOP_SECONDS
    try:
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            _stop(process)
        (run.folder / STOP).unlink(missing_ok=True)
    watch.look()


def _stop(process: "subprocess.Popen[bytes]", *how: signal.Signals) -> None:
    """End the launcher and every rank, gently and then not."""
    for number in how or (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


def _last_error(log: Path, since: int) -> str:
    text = log.read_bytes()[since:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ours = [line.removeprefix(REFUSAL) for line in lines if line.startswith(REFUSAL)]
    errors = [line for line in lines if "Error" in line and "ChildFailedError" not in line]
    return (ours or errors or lines or ["no output"])[-1][-300:]  # the others' are of ranks that lost this one


def last_figures(folder: Path) -> dict[str, float]:
    """Return the figures that a checkpoint's run ended with."""
    return dict(checkpoint.read_config(folder).get("figures", {}))
