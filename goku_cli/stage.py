"""The one loop that every curation stage shares: pending items -> a pool of processes -> rows and receipts.

Invariant: a receipt says that an item went through a stage with certain parameters. It is written in the same
transaction as the item's rows, which replace its earlier ones; so a stage that was killed at any instant, or is
run again, does exactly the items that lack a receipt. A failed item leaves a row in `failures` and no receipt.
"""

import datetime
import itertools
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Protocol

from goku_cli.errors import GokuError
from goku_cli.manifest.store import Manifest, Row

COMMIT_SECONDS = 2.0


@dataclass(frozen=True)
class Item:
    """One unit of work: its id and what the worker needs to know (picklable)."""

    id: str
    payload: Any
    version: str = ""
    """What else its receipt must match, e.g. a file's size and time: an item that changed is done again."""


@dataclass
class Rows:
    """What became of one item: rows to insert by table, after deleting rows by (table, column)."""

    insert: dict[str, list[Row]] = field(default_factory=dict)
    replace: dict[str, str] = field(default_factory=dict)
    """Table -> column: its rows whose column equals the item's id are deleted first."""
    once: dict[str, list[Row]] = field(default_factory=dict)
    """Rows to insert by table unless a row with the same `id` is there (two files with the same bytes)."""
    tensors: dict[str, Any] = field(default_factory=dict)
    """Arrays by key, which `store` must make durable before the rows are committed."""


@dataclass
class Outcome:
    """Counts of one stage run."""

    done: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def check(self, stage: str, strict: bool) -> None:
        """Raise when nothing at all succeeded, or (strict) when anything failed.

        Raises:
            GokuError: with the commonest reason.
        """
        if self.failed and (strict or not (self.done or self.skipped)):
            worst = max(self.reasons, key=lambda reason: self.reasons[reason])
            raise GokuError(f"{stage}: {self.failed} of {self.failed + self.done} items failed, mostly: {worst}")


class Progress(Protocol):
    """What a terminal's progress bar looks like to a stage."""

    def start(self, what: str, total: int) -> None: ...
    def advance(self, count: int = 1) -> None: ...


class Quiet:
    """Progress that nobody watches."""

    def start(self, what: str, total: int) -> None: ...
    def advance(self, count: int = 1) -> None: ...


def pending(manifest: Manifest, stage: str, params: str, items: Sequence[Item]) -> list[Item]:
    """Return the items that have no receipt of `stage` with these parameters."""
    rows = manifest.query("SELECT item, params FROM receipts WHERE stage = ?", [stage])
    done = {(row["item"], row["params"]) for row in rows}
    return [item for item in items if (item.id, params + item.version) not in done]


def run_stage(
    manifest: Manifest, stage: str, params: str, items: Sequence[Item], work: Callable[[Any], Rows], *,
    workers: int = 0, progress: Progress | None = None, store: Callable[[list[Rows]], None] | None = None,
) -> Outcome:  # fmt: skip
    """Do the pending items in `workers` processes (0: one per core) and commit every two seconds.

    `work` is a module-level function of the payload. An exception of any kind fails its own item alone.
    `store` gets the results of each batch before its rows are committed (it publishes their tensors).
    """
    progress = progress or Quiet()
    todo = pending(manifest, stage, params, items)
    outcome = Outcome(skipped=len(items) - len(todo))
    progress.start(stage, len(todo))
    batch: list[tuple[Item, Rows | str]] = []
    committed = time.monotonic()
    for item, result in _results(todo, work, workers or os.cpu_count() or 1):
        batch.append((item, result))
        if isinstance(result, str):
            outcome.failed += 1
            outcome.reasons[result] = outcome.reasons.get(result, 0) + 1
        else:
            outcome.done += 1
        progress.advance()
        if time.monotonic() - committed > COMMIT_SECONDS:
            _commit(manifest, stage, params, batch, store)
            batch, committed = [], time.monotonic()
    _commit(manifest, stage, params, batch, store)
    return outcome


def _attempt(work: Callable[[Any], Rows], payload: Any) -> Rows | str:
    try:
        return work(payload)
    except GokuError as error:
        return str(error)
    except Exception as error:  # a bad item never stops a run: whatever a codec raised becomes its reason
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({os.path.basename(place.filename)}:{place.lineno})"[:500]


def _results(items: Sequence[Item], work: Callable[[Any], Rows], workers: int) -> Iterator[tuple[Item, Rows | str]]:
    if workers == 1 or len(items) < 2:
        for item in items:
            yield item, _attempt(work, item.payload)
        return
    # Spawn, not fork: decoders and torch hold threads that a forked child would inherit half alive.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread_each) as pool:
        queue = iter(items)
        running: dict[Future[Rows | str], Item] = {}
        try:
            while True:
                for item in itertools.islice(queue, workers * 3 - len(running)):
                    running[pool.submit(_attempt, work, item.payload)] = item
                if not running:
                    return
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield running.pop(future), _result(future)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _result(future: "Future[Rows | str]") -> Rows | str:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise GokuError("a worker process was killed (out of memory?); run again with --workers 1") from error


def _one_thread_each() -> None:
    """Keep libraries from starting a thread per core in every worker."""
    import cv2

    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def _commit(
    manifest: Manifest, stage: str, params: str, batch: list[tuple[Item, Rows | str]],
    store: Callable[[list[Rows]], None] | None,
) -> None:  # fmt: skip
    if not batch:
        return
    if store is not None:
        store([result for _, result in batch if isinstance(result, Rows)])
    now = datetime.datetime.now()
    inserts: dict[str, list[Row]] = {"receipts": [], "failures": []}
    replaced: dict[tuple[str, str], list[str]] = {}
    once: dict[str, dict[str, Row]] = {}
    for item, result in batch:
        if isinstance(result, str):
            inserts["failures"].append({"stage": stage, "item": item.id, "reason": result, "failed": now})
            continue
        inserts["receipts"].append({"stage": stage, "item": item.id, "params": params + item.version})
        for table, column in result.replace.items():
            replaced.setdefault((table, column), []).append(item.id)
        for table, rows in result.insert.items():
            inserts.setdefault(table, []).extend(rows)
        for table, rows in result.once.items():
            once.setdefault(table, {}).update({row["id"]: row for row in rows})
    ids = [item.id for item, _ in batch]
    with manifest.transaction():
        for table in ("receipts", "failures"):
            manifest.execute(f"DELETE FROM {table} WHERE stage = ? AND list_contains(?, item)", [stage, ids])
        for (table, column), keys in replaced.items():
            manifest.execute(f'DELETE FROM "{table}" WHERE list_contains(?, "{column}")', [keys])
        for table, rows in inserts.items():
            manifest.insert(table, rows)
        for table, by_id in once.items():
            known = manifest.query(f'SELECT id FROM "{table}" WHERE list_contains(?, id)', [list(by_id)])
            manifest.insert(table, [by_id[key] for key in by_id.keys() - {row["id"] for row in known}])
