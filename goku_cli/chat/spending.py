"""Token budget and rate limits, shared by all threads of a run."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from goku_cli.chat.settings import ServerSettings
from goku_cli.errors import Cause, Fault, GokuError

OUTAGES = 8
"""So many requests in a row that fail after all retries: the server is gone, and the other clips wait for it."""
TOLD_SECONDS = 0.5


class Spending:
    """Requests, tokens and money; `stopped` says why nothing more is asked."""

    def __init__(self, settings: ServerSettings | None = None, tell: Callable[[str], None] | None = None) -> None:
        self.settings = settings or ServerSettings()
        self.requests = self.tokens_in = self.tokens_out = 0
        self.stopped: str | None = None
        self.without = set(self.settings.without)
        """Parameters that are not sent any more."""
        self._tell, self._told = tell, 0.0
        self._outages, self._next = 0, 0.0
        self._lock = threading.Lock()

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.tokens_in + self.tokens_out

    @property
    def cost(self) -> float:
        """In the currency of the prices."""
        return (self.tokens_in * self.settings.price_in + self.tokens_out * self.settings.price_out) / 1e6

    def __str__(self) -> str:
        told = f"{self.requests} requests, {self.tokens} tokens"
        if refused := self.without - set(self.settings.without):
            told += f", without {', '.join(sorted(refused))}, which the server refuses"
        return f"{told}, cost {self.cost:.2f}" if self.settings.price_in or self.settings.price_out else told

    def check(self) -> None:
        """Refuse to go on when asking was stopped.

        Raises:
            Fault: UNASKED.
        """
        if self.stopped:
            raise Fault(Cause.UNASKED, self.stopped)

    def finish(self) -> None:
        """Say why clips wait, when asking was stopped.

        Raises:
            GokuError: it was.
        """
        if self.stopped:
            raise GokuError(f"{self.stopped}; the other clips wait: run the same command again to go on")

    @contextlib.contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """An interrupt ends the asking: what is in flight was paid for and is awaited, nothing more is asked."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: FrameType | None) -> None:
            self.stop("interrupted")
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)

        if threading.current_thread() is not threading.main_thread():
            before.clear()
        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def turn(self) -> None:
        """Wait until the rate allows one more request, retries included, and count it.

        Raises:
            Fault: UNASKED.
        """
        self.check()
        with self._lock:
            self.requests += 1
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + 60 / self.settings.rate if self.settings.rate else 0.0
        if start > now:
            time.sleep(start - now)

    def answered(self, tokens_in: int, tokens_out: int) -> None:
        """Count an answer; stop when the budget is spent."""
        with self._lock:
            self._outages = 0
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out
            budget = self.settings.tokens_budget
            if budget is not None and self.tokens >= budget:
                self.stopped = f"{self.tokens} tokens are spent of --tokens-budget {budget}"
            tell = self._tell is not None and time.monotonic() - self._told > TOLD_SECONDS
            self._told = time.monotonic() if tell else self._told
        if tell and self._tell:
            self._tell(f"caption ({self})")

    def outage(self, reason: str) -> None:
        """Count a request that failed although it was repeated; stop when it is one of many in a row."""
        with self._lock:
            self._outages += 1
            if self._outages >= OUTAGES:
                self.stop(f"the server does not answer any more ({reason})")

    def stop(self, reason: str) -> None:
        """Ask nothing more."""
        self.stopped = self.stopped or reason
