"""Drawing on several GPUs: by data, each rank its own prompts, and by sequence, a pack on several ranks at once.

Ranks are processes of this machine; the command's own process gets the rows of finished samples and writes them, so
that the manifest has one writer. A rank whose parent is gone ends by itself.
"""

import os
import queue
import signal
import tempfile
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.store import Row
from goku_cli.model.sampling.guidance import Share
from goku_cli.sample.generate import Generator
from goku_cli.sample.request import Request
from goku_cli.sample.sample import Set, draw_rows
from goku_cli.sample.settings import Machine
from goku_cli.stage import Progress

LOOK = 1.0
"""Seconds between looks at whether all ranks are alive."""


def draw_on_ranks(
    drawn: Set, ids: Mapping[Request, str], wanted: AbstractSet[Request], machine: Machine, progress: Progress
) -> Iterator[Row]:
    """Yield the row of each wanted sample as it is finished on one of `machine.ranks` processes.

    Raises:
        UsageError: the ranks cannot share a pack.
        GokuError: a rank failed or died; what was drawn before is kept.
    """
    context = torch.multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    requests = list(ids)
    groups = machine.ranks // machine.sequence
    with tempfile.TemporaryDirectory() as meeting:
        processes = []
        for rank in range(machine.ranks):
            part = {request: ids[request] for request in requests[rank // machine.sequence :: groups]}
            work = _Work(drawn, part, wanted & part.keys(), machine, rank, f"{meeting}/ranks", told, os.getpid())
            processes.append(context.Process(target=_rank, args=(work,), daemon=True))
        try:
            for process in processes:
                process.start()
            yield from _told(processes, told, progress)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()


def _told(processes: list[Any], told: Any, progress: Progress) -> Iterator[Row]:
    """Yield rows until every rank said that it is done."""
    working = len(processes)
    while working:
        try:
            kind, what = told.get(timeout=LOOK)
        except queue.Empty:
            for rank, process in enumerate(processes):
                if process.exitcode:
                    raise GokuError(f"rank {rank} died (exit code {process.exitcode}); run the same command again to "
                                    "go on") from None  # fmt: skip
            continue
        if kind == "row":
            yield what
        elif kind == "steps":
            progress.advance(what)
        elif kind == "usage":
            raise UsageError(what)
        elif kind == "failed":
            raise GokuError(what)
        else:
            working -= 1


class _Teller:
    """Progress that is told to the parent, and the end of a rank that has none any more."""

    def __init__(self, told: Any, parent: int) -> None:
        self.told = told
        self.parent = parent

    def start(self, what: str, total: int) -> None: ...

    def advance(self, count: int = 1) -> None:
        if os.getppid() != self.parent:
            os._exit(1)
        self.told.put(("steps", count))


class _Silent(_Teller):
    """The same of a rank whose steps another one counts."""

    def advance(self, count: int = 1) -> None:
        super().advance(0)


@dataclass(frozen=True)
class _Work:
    """What one rank is told."""

    drawn: Set
    ids: Mapping[Request, str]
    wanted: AbstractSet[Request]
    machine: Machine
    rank: int
    meeting: str
    """Path of the file by which the ranks find each other."""
    told: Any
    parent: int


def _rank(work: _Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends the ranks
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // work.machine.ranks))
    try:
        for row in _rows(work):
            work.told.put(("row", row))
        work.told.put(("done", work.rank))
    except UsageError as error:
        work.told.put(("usage", str(error)))
    except Exception as error:
        work.told.put(("failed", f"rank {work.rank}: {error or type(error).__name__}"))
    work.told.close()
    work.told.join_thread()


def _rows(work: _Work) -> Iterator[Row]:
    machine, rank, settings = work.machine, work.rank, work.drawn.settings
    device = f"cuda:{rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    share = None
    if machine.sequence > 1:
        backend = "gloo" if device == "cpu" else "nccl"
        dist.init_process_group(backend, init_method=f"file://{work.meeting}", rank=rank, world_size=machine.ranks)
        firsts = range(0, machine.ranks, machine.sequence)
        groups = [dist.new_group(list(range(first, first + machine.sequence))) for first in firsts]
        share = Share(groups[rank // machine.sequence], rank % machine.sequence, machine.sequence)
    folder = work.drawn.folder
    generator = Generator.load(folder, settings.weights, settings.tile, device=device, offload=machine.offload)
    progress = (_Silent if share and share.rank else _Teller)(work.told, work.parent)
    yield from draw_rows(generator, work.drawn, work.ids, work.wanted, progress, share)


def default_ranks() -> int:
    """Return how many processes draw when nobody says: one per GPU, or one."""
    return max(1, torch.cuda.device_count())
