"""Steps that should not be made: a loss or a gradient norm that is not finite, or far above what it has been.

The threshold is a running mean plus some deviations, not a number: norms fall by orders of magnitude as a run goes on.
"""

import math
from dataclasses import dataclass, field

WINDOW = 100
"""Steps that the running mean remembers, about."""


@dataclass
class Running:
    """Mean and deviation of the last steps, exponentially weighted (Finch 2009), exact over the first WINDOW."""

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def add(self, value: float) -> None:
        """Take in a value."""
        self.count += 1
        share = 1 / min(self.count, WINDOW)
        change = value - self.mean
        self.mean += share * change
        self.variance = (1 - share) * (self.variance + share * change**2)

    def limit(self, deviations: float) -> float:
        """Return the mean plus so many deviations."""
        return self.mean + deviations * math.sqrt(self.variance)


@dataclass
class Spikes:
    """Judges every step of a run."""

    deviations: float
    """0 lets all finite steps pass."""
    after: int
    """Steps to learn from before the first is judged."""
    loss: Running = field(default_factory=Running)
    norm: Running = field(default_factory=Running)
    in_a_row: int = 0
    """Steps that were refused since the last that was not."""

    def judge(self, loss: float, norm: float) -> str:
        """Return why a step must not be made, or nothing; what is refused is not learned from."""
        reason = self._reason("loss", loss, self.loss) or self._reason("gradient norm", norm, self.norm)
        if reason:
            self.in_a_row += 1
            return reason
        self.in_a_row = 0
        self.loss.add(loss)
        self.norm.add(norm)
        return ""

    def _reason(self, what: str, value: float, running: Running) -> str:
        if not math.isfinite(value) or value < 0:  # DeepSpeed tells a norm that is not finite as -1
            return f"the {what} is not finite"
        limit = running.limit(self.deviations)
        if self.deviations and running.count >= self.after and value > limit:
            return f"the {what} is {value:.4g}, above {limit:.4g}"
        return ""

    def state(self) -> dict[str, list[float]]:
        """Return what a resumed run needs."""
        return {name: list(vars(running).values()) for name, running in (("loss", self.loss), ("norm", self.norm))}

    def load_state(self, state: dict[str, list[float]]) -> None:
        """Go on from what `state` returned."""
        for name, (count, mean, variance) in state.items():
            setattr(self, name, Running(int(count), mean, variance))
        self.in_a_row = 0
