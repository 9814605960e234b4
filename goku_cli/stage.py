"""The one loop that every curation stage shares: pending items -> a pool of processes -> rows and receipts.

Invariant: a receipt says that an item went through a stage with certain parameters. It is written in the same
transaction as the item's rows, which replace its earlier ones; so a stage that was killed at any instant, or is
run again, does exactly the items that lack a receipt. A failed item leaves a row in `failures` and no receipt; one
that was read in part leaves both.

Items are drawn from an iterator and nothing is kept of them, so memory does not grow with their number. A worker
that crashes, hangs or takes too much memory dies alone: its item fails, the others go on.
"""

import contextlib
import datetime
import itertools
import multiprocessing
import os
import resource
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from pebble import ProcessExpired, ProcessPool

from goku_cli.errors import Cause, Fault, GokuError, UsageError
from goku_cli.manifest.store import Manifest, Row

COMMIT_SECONDS = 2.0
COMMIT_SHARE = 0.05
"""Most of the time that may go into commits: the more rows there are, the longer each takes."""
CHUNK = 5_000
"""Items whose receipts are looked up together, and most that wait for a commit."""
TENSOR_BYTES = 1 << 30
"""Bytes of tensors that wait for a commit: they become one file."""
TENSOR_SECONDS = 120.0
"""Most seconds that they wait: what a killed run does again."""
TIMEOUT = 3600.0
"""Seconds after which an item is given up."""
MEMORY = 4 << 30
"""Bytes of memory of its own that a worker may take."""


@dataclass(frozen=True)
class Item:
    """One unit of work: its id and what the worker needs to know (picklable)."""

    id: str
    payload: Any
    version: str = ""
    """What else its receipt must match, e.g. a file's size and time: an item that changed is done again."""


@dataclass(frozen=True)
class Failure:
    """Why an item failed, or was read only in part."""

    cause: Cause
    reason: str

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """Whatever a codec raised becomes a reason, with the place when it is not one of ours."""
        if isinstance(error, Fault):
            return cls(error.cause, str(error))
        if isinstance(error, GokuError):
            return cls(Cause.UNSUITABLE, str(error))
        if isinstance(error, MemoryError):
            return cls(Cause.MEMORY, f"memory: it takes more than {MEMORY >> 30} GiB")
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"({os.path.basename(place.filename)}:{place.lineno})"
        return cls(Cause.INTERNAL, f"internal: {type(error).__name__}: {error} {where}"[:500])


@dataclass
class Rows:
    """What became of one item: rows to insert by table, after deleting rows by (table, column)."""

    insert: dict[str, list[Row]] = field(default_factory=dict)
    replace: dict[str, str] = field(default_factory=dict)
    """Table -> column: its rows whose column equals the item's id are deleted first."""
    latest: dict[str, list[Row]] = field(default_factory=dict)
    """Rows by table that take the place of one with the same `id`: of the same bytes, or of a file measured again."""
    tensors: dict[str, Any] = field(default_factory=dict)
    """Arrays, or lists of arrays, by key, which `store` must make durable before the rows are committed."""
    partial: Failure | None = None
    """What was lost, when only a part of the item was good."""

    @property
    def tensor_bytes(self) -> int:
        """How large its tensors are together."""
        return sum(map(_size, self.tensors.values()))


def _size(held: Any) -> int:
    if isinstance(held, list | tuple):
        return sum(map(_size, held))
    return getattr(held, "nbytes", 0)  # the names that lie beside arrays weigh nothing


@dataclass
class Outcome:
    """Counts of one stage run."""

    done: int = 0
    partial: int = 0
    """Of those done: read only in part."""
    failed: int = 0
    skipped: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Cause -> how many failed."""
    example: dict[str, str] = field(default_factory=dict)
    """Cause -> the reason of the first."""

    def note(self, result: "Rows | Failure") -> None:
        """Count one item."""
        if isinstance(result, Failure):
            self.failed += 1
            self.reasons[result.cause] = self.reasons.get(result.cause, 0) + 1
            self.example.setdefault(result.cause, result.reason)
        else:
            self.done += 1
            self.partial += result.partial is not None

    def check(self, stage: str, strict: bool) -> None:
        """Raise when nothing at all succeeded, or (strict) when anything failed.

        Raises:
            GokuError: with the commonest reason.
        """
        if self.failed and (strict or not (self.done or self.skipped)):
            worst = max(self.reasons, key=lambda cause: self.reasons[cause])
            count = f"{self.failed} of {self.failed + self.done} items failed"
            raise GokuError(f"{stage}: {count}, mostly like this: {self.example[worst]}")


class Progress(Protocol):
    """What a terminal's progress bar looks like to a stage."""

    def start(self, what: str, total: int) -> None: ...
    def advance(self, count: int = 1) -> None: ...


class Quiet:
    """Progress that nobody watches."""

    def start(self, what: str, total: int) -> None: ...
    def advance(self, count: int = 1) -> None: ...


def run_stage(
    manifest: Manifest, stage: str, params: str, items: Iterable[Item], work: Callable[[Any], Any], *,
    total: int, workers: int = 0, timeout: float = TIMEOUT, progress: Progress | None = None,
    refine: Callable[[Rows], Rows] | None = None, store: Callable[[list[Rows]], None] | None = None,
    threads: bool = False, together: int = 0,
) -> Outcome:  # fmt: skip
    """Do the pending ones of `total` items in `workers` processes (0: one per core; 1: this one, for debugging).

    With `threads` the workers are threads of this process: for work that waits for a server. With `together` it is
    this process, and `work` is a function of the payloads of so many items at once: for a model that is loaded once.

    `work` is a module-level function of the payload. An exception of any kind fails its own item alone, and so does
    taking more than `timeout` seconds. `refine` goes on in this process with what a worker made, where the one GPU is,
    while the workers go on with other items. `store` gets the results of each batch before its rows are committed: it
    publishes their tensors, or adds rows that are better made for many clips at once.
    """
    progress = progress or Quiet()
    outcome = Outcome()
    progress.start(stage, total)
    todo = _pending(manifest, stage, params, items, outcome, progress)
    batch: list[tuple[Item, Rows | Failure]] = []
    committed, pause, held = time.monotonic(), COMMIT_SECONDS, 0
    pool = _threads(workers or 1) if threads else _processes(workers or os.cpu_count() or 1, timeout)
    results = _results_together(todo, work, together) if together else _results(todo, work, pool, workers)
    try:
        with contextlib.closing(results):
            for item, result in results:
                if refine is not None and isinstance(result, Rows):
                    result = _attempt(refine, result)
                batch.append((item, result))
                outcome.note(result)
                progress.advance()
                held += result.tensor_bytes if isinstance(result, Rows) else 0
                waited = time.monotonic() - committed
                if waited > (TENSOR_SECONDS if held else pause) or len(batch) == CHUNK or held >= TENSOR_BYTES:
                    ready, batch, held = batch, [], 0
                    took = _commit(manifest, stage, params, ready, store)
                    committed, pause = time.monotonic(), max(COMMIT_SECONDS, took / COMMIT_SHARE)
    finally:  # what is finished is kept, also when somebody pressed Ctrl-C
        _commit(manifest, stage, params, batch, store)
    return outcome


def _pending(
    manifest: Manifest, stage: str, params: str, items: Iterable[Item], outcome: Outcome, progress: Progress
) -> Iterator[Item]:
    """Yield the items that have no receipt of `stage` with these parameters."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        done = manifest.matching(
            "SELECT item, params FROM receipts JOIN asked ON item = key WHERE stage = ?",
            [item.id for item in chunk],
            [stage],
        )
        receipts = {(row["item"], row["params"]) for row in done}
        fresh = [item for item in chunk if (item.id, params + item.version) not in receipts]
        outcome.skipped += len(chunk) - len(fresh)
        progress.advance(len(chunk) - len(fresh))
        yield from fresh


def _attempt(work: Callable[[Any], Rows], payload: Any) -> Rows | Failure:
    try:
        return work(payload)
    except Exception as error:  # a bad item never stops a run
        return Failure.of(error)


def _results(
    items: Iterator[Item], work: Callable[[Any], Rows], pool: "AbstractContextManager[Submit]", workers: int
) -> Generator[tuple[Item, Rows | Failure], None, None]:
    if workers == 1:
        for item in items:
            yield item, _attempt(work, item.payload)
        return
    first = next(items, None)
    if first is None:  # starting processes takes a second
        return
    queue = itertools.chain([first], items)
    running: dict[Future[Rows | Failure], Item] = {}
    with pool as submit:
        while True:
            for item in itertools.islice(queue, (workers or os.cpu_count() or 1) * 3 - len(running)):
                running[submit(work, item.payload)] = item
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield running.pop(future), _result(future)


def _results_together(
    items: Iterator[Item], work: Callable[[list[Any]], list[Rows]], size: int
) -> Generator[tuple[Item, Rows | Failure], None, None]:
    while chunk := list(itertools.islice(items, size)):
        yield from zip(chunk, _attempt_together(work, [item.payload for item in chunk]), strict=True)


def _attempt_together(work: Callable[[list[Any]], list[Rows]], payloads: list[Any]) -> list[Rows | Failure]:
    """Work on all of them or, where that fails, on each alone, so that only the bad ones fail."""
    try:
        return [*work(payloads)]
    except UsageError:  # no item's fault: the model that was asked for is not there
        raise
    except Exception as error:  # a bad item never stops a run
        if len(payloads) == 1:
            return [Failure.of(error)]
    return [result for payload in payloads for result in _attempt_together(work, [payload])]


Submit = Callable[[Callable[[Any], Rows], Any], Future[Rows | Failure]]


@contextlib.contextmanager
def _processes(workers: int, timeout: float) -> Iterator[Submit]:
    # Spawn, not fork: decoders and torch hold threads that a forked child would inherit half alive.
    pool = ProcessPool(workers, initializer=_begin_worker, context=multiprocessing.get_context("spawn"))
    try:
        yield lambda work, payload: pool.schedule(_attempt, args=[work, payload], timeout=timeout)
    finally:
        pool.stop()
        pool.join()


@contextlib.contextmanager
def _threads(workers: int) -> Iterator[Submit]:
    pool = ThreadPoolExecutor(workers)
    try:
        yield lambda work, payload: pool.submit(_attempt, work, payload)
    finally:
        pool.shutdown(cancel_futures=True)


def _result(future: "Future[Rows | Failure]") -> Rows | Failure:
    try:
        return future.result()
    except TimeoutError as error:
        return Failure(Cause.TIMEOUT, f"timeout: not done after {error.args[1]:g} s")
    except ProcessExpired as error:
        return Failure(Cause.CRASHED, f"crashed: the worker process ended with code {error.exitcode}")


def _begin_worker() -> None:
    """Keep libraries from starting a thread per core in every worker, and one bad file from taking all memory."""
    import cv2

    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with contextlib.suppress(ValueError):  # a lower hard limit is already set
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, hard))


def _commit(
    manifest: Manifest, stage: str, params: str, batch: list[tuple[Item, Rows | Failure]],
    store: Callable[[list[Rows]], None] | None,
) -> float:  # fmt: skip
    """Write a batch; return the seconds that the database took."""
    if not batch:
        return 0.0
    if store is not None:
        store([result for _, result in batch if isinstance(result, Rows)])
    started = time.monotonic()
    now = datetime.datetime.now()
    inserts: dict[str, list[Row]] = {"receipts": [], "failures": []}
    replaced: dict[tuple[str, str], list[str]] = {}
    latest: dict[str, dict[str, Row]] = {}
    for item, result in batch:
        failure = result if isinstance(result, Failure) else result.partial
        if failure is not None:
            about = {"cause": failure.cause, "reason": failure.reason, "partial": isinstance(result, Rows)}
            inserts["failures"].append({"stage": stage, "item": item.id, "failed": now, **about})
        if isinstance(result, Failure):
            continue
        inserts["receipts"].append({"stage": stage, "item": item.id, "params": params + item.version})
        for table, column in result.replace.items():
            replaced.setdefault((table, column), []).append(item.id)
        for table, rows in result.insert.items():
            inserts.setdefault(table, []).extend(rows)
        for table, rows in result.latest.items():
            latest.setdefault(table, {}).update({row["id"]: row for row in rows})
    ids = [item.id for item, _ in batch]
    with manifest.transaction():
        for table in ("receipts", "failures"):
            manifest.delete(table, "item", ids, where="stage = ?", parameters=[stage])
        for (table, column), keys in replaced.items():
            manifest.delete(table, column, keys)
        for table, rows in inserts.items():
            manifest.insert(table, rows)
        for table, by_id in latest.items():
            manifest.delete(table, "id", list(by_id))
            manifest.insert(table, list(by_id.values()))
    return time.monotonic() - started
