"""The next steps' data, read and packed while the ranks compute this one's: by a thread, or by processes.

What a step's data are does not depend on who reads them, or when.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from goku_cli.train.data.batches import Steps
from goku_cli.train.task import Step

STEPS_AHEAD = 2
"""Of every process."""


class Source(Protocol):
    """What gives the loop its steps."""

    waited: float
    """Seconds that the last call waited."""

    def get(self, step: int, last: int) -> Step:
        """Return a step's data, and go on to the next ones', as long as there are any before `last`.

        Raises:
            Exception: what reading them raised.
        """

    def forget(self) -> None:
        """Drop what was read ahead: the data go on elsewhere."""


class ThreadPrefetcher:
    """A thread that keeps one step ahead."""

    def __init__(self, read: Callable[[int], Step]) -> None:
        self._read = read
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Step]] | None = None
        self.waited = 0.0

    def get(self, step: int, last: int) -> Step:
        """As `Source` says."""
        started = time.monotonic()
        if self._next is None or self._next[0] != step:
            self._next = (step, self._pool.submit(self._read, step))
        data = self._next[1].result()
        self._next = (step + 1, self._pool.submit(self._read, step + 1)) if step + 1 < last else None
        self.waited = time.monotonic() - started
        return data

    def forget(self) -> None:
        """As `Source` says."""
        if self._next is not None:
            self._next[1].exception()  # it is not read twice at once
            self._next = None


class ProcessPrefetcher:
    """Processes that prepare steps in turns, some steps ahead, in pinned memory where there is a GPU."""

    def __init__(self, steps: Steps, count: int) -> None:
        self._steps = steps
        self._count = count
        self._coming: Iterator[Step] | None = None
        self._step = 0
        """Which comes next."""
        self.waited = 0.0

    def get(self, step: int, last: int) -> Step:
        """As `Source` says."""
        started = time.monotonic()
        if self._coming is None or self._step != step:
            self._coming = iter(self._begin(step, last))
        data = self._steps.met(next(self._coming))
        self._step = step + 1
        self._steps.go_to(data.position)  # from where other processes would go on
        self.waited = time.monotonic() - started
        return data

    def forget(self) -> None:
        """As `Source` says."""
        self._coming = None

    def _begin(self, step: int, last: int) -> "DataLoader[Step]":
        alone = self._steps.alone()
        return DataLoader(
            _Turns(alone, step, last, self._count), batch_size=None, num_workers=self._count,
            prefetch_factor=STEPS_AHEAD, pin_memory=torch.cuda.is_available(), multiprocessing_context="spawn",
        )  # fmt: skip


class _Turns(IterableDataset[Step]):
    """The steps of one process: every so many-th, while it draws the others', too, to know where its own begin."""

    def __init__(self, steps: Steps, step: int, last: int, count: int) -> None:
        self._steps, self._from, self._last, self._count = steps, step, last, count

    def __iter__(self) -> Iterator[Step]:
        torch.set_num_threads(1)
        info: Any = get_worker_info()
        for step in range(self._from, self._last):
            if (step - self._from) % self._count == info.id:
                yield self._steps.prepare(step)
            else:
                self._steps.pass_over(step)
