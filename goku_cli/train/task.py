"""Interface between the training loop and a kind of training: the data of a step, and the task."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """The data of one step, on this rank."""

    batches: list[Any]
    """As many on every rank; the weights change after the last."""
    position: list[int] = field(default_factory=list)
    """Where the data go on after this step."""
    figures: Mapping[str, float | str] = field(default_factory=dict)
    """Of the whole step, for the log."""
    lost: list[str] = field(default_factory=list)
    """What could not be read, and why; it counts for nothing."""

    def pin_memory(self) -> "Step":
        """Return the same in memory from which a GPU copies by itself."""
        return replace(self, batches=[batch.pin_memory() for batch in self.batches])


class Task(Protocol):
    """A kind of training."""

    @property
    def model(self) -> nn.Module: ...
    def prepare(self, step: int) -> Step:
        """Read a step's data; called step by step, by another thread than the rest."""

    def go_to(self, position: list[int]) -> None:
        """Let the next step's data be those that follow this position."""

    def ahead(self) -> Any:
        """Return what prepares steps ahead of the loop (train/data/prefetch.py)."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor: ...
    def diagnose(self) -> dict[str, float]:
        """Return this rank's figures since the last call."""

    def records(self) -> list[dict[str, Any]]:
        """Return a row for every sample whose loss was computed since the last call."""

    def evaluate(self, model: nn.Module) -> dict[str, float]: ...
    def describe(self, folder: Path) -> dict[str, Any]:
        """Return the config.json of the checkpoint in a folder that has its weights, and write what else it needs."""

    def state(self) -> dict[str, Tensor]:
        """Return this rank's tensors that are neither weights nor the optimizer's."""

    def load_state(self, state: dict[str, Tensor]) -> None: ...
