"""Replies that were paid for, kept beside the manifest in NAME.replies.sqlite: none is lost, none is asked for twice.

A reply is on the disk before anybody reads it. The file may be deleted; captions that are made stay.
"""

import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from weakref import WeakValueDictionary

from goku_cli.errors import GokuError
from goku_cli.manifest.beside import beside


def reply_key(model: str, prompt: str, images: Sequence[bytes], attempt: int) -> str:
    """Return what names one question to one model, whatever its address is."""
    digest = sha256(f"{model}\0{attempt}\0{prompt}".encode())
    for image in images:
        digest.update(sha256(image).digest())
    return digest.hexdigest()


@dataclass
class _Waiting:
    key: str
    body: str
    stored: bool = False


class Replies:
    """The file, open. Any number of threads may use it."""

    def __init__(self, manifest: Path) -> None:
        self.path = beside(manifest, "replies.sqlite")
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._turns: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        try:
            self._file = sqlite3.connect(self.path, check_same_thread=False, timeout=30)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, body TEXT) WITHOUT ROWID")
        except sqlite3.Error as error:
            raise GokuError(
                f"{self.path} cannot be used ({error}); move it away to ask for everything again"
            ) from error

    def __enter__(self) -> "Replies":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def turn(self, key: str) -> threading.Lock:
        """Return the lock of a question: two clips that look the same wait for one reply."""
        with self._lock:
            lock = self._turns.get(key)
            if lock is None:
                lock = self._turns[key] = threading.Lock()
            return lock

    def get(self, key: str) -> str | None:
        """Return the body of a reply that was stored."""
        with self._lock:
            found = self._file.execute("SELECT body FROM replies WHERE key = ?", [key]).fetchone()
        return found[0] if found else None

    def put(self, key: str, body: str) -> None:
        """Return when the reply is on the disk.

        One thread writes what all have brought meanwhile, so that a slow disk does not slow down the asking.

        Raises:
            GokuError: the file cannot be written.
        """
        own = _Waiting(key, body)
        self._queue.append(own)
        with self._lock:
            if own.stored:
                return
            batch = [self._queue.popleft() for _ in range(len(self._queue))]
            try:
                with self._file:
                    rows = [(one.key, one.body) for one in batch]
                    self._file.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?)", rows)
            except sqlite3.Error as error:
                with contextlib.suppress(ValueError):
                    batch.remove(own)
                self._queue.extendleft(reversed(batch))
                raise GokuError(f"a reply cannot be kept in {self.path}: {error}") from error
            for one in batch:
                one.stored = True
