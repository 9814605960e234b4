"""Throughput of a run between two lines of its log."""

import time

from goku_cli.train.task import Step


class Throughput:
    """Counts steps, tokens, operations, and the time that passed."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Count from now on."""
        self._began = time.monotonic()
        self._steps, self._tokens, self._flops, self._waited = 0, 0.0, 0.0, 0.0

    def add(self, data: Step, waited: float) -> None:
        """Take in a step, and the seconds that it waited for its data."""
        self._steps += 1
        self._tokens += float(data.figures.get("tokens", 0))
        self._flops += float(data.figures.get("flops", 0))
        self._waited += waited

    def figures(self) -> dict[str, float]:
        """Return rates over all ranks, and the share of the time in which they waited for data; count anew."""
        seconds = time.monotonic() - self._began
        found = {"steps_per_second": self._steps / seconds, "data_wait": self._waited / seconds}
        if self._tokens:
            found |= {"tokens_per_second": self._tokens / seconds, "flops_per_second": self._flops / seconds}
        self.start()
        return found
