"""The next step's data, read and packed by a thread while the ranks compute this one's."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Keeps one step ahead. What a step's data are does not depend on when they are read."""

    def __init__(self, read: Callable[[int], T]) -> None:
        self._read = read
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[T]] | None = None
        self.waited = 0.0
        """Seconds that the last call waited."""

    def get(self, step: int, last: int) -> T:
        """Return a step's data, and begin to read the next one's unless there is none before `last`.

        Raises:
            Exception: what reading them raised.
        """
        started = time.monotonic()
        if self._next is None or self._next[0] != step:
            self._next = (step, self._pool.submit(self._read, step))
        data = self._next[1].result()
        self._next = (step + 1, self._pool.submit(self._read, step + 1)) if step + 1 < last else None
        self.waited = time.monotonic() - started
        return data

    def forget(self) -> None:
        """Drop what was read ahead: the data go on elsewhere."""
        if self._next is not None:
            self._next[1].exception()  # it is not read twice at once
            self._next = None
