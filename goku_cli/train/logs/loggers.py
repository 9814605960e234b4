"""Figures on other people's boards, beside metrics.jsonl: TensorBoard and Weights & Biases.

Both are optional packages, imported by the first rank when a recipe's [watch] asks for them.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from goku_cli.errors import UsageError
from goku_cli.train.recipe import LoggingConfig


class Board(Protocol):
    """Somewhere else where figures can be seen."""

    name: str

    def write(self, step: int, figures: Mapping[str, float]) -> None: ...


def check_boards(watch: LoggingConfig) -> None:
    """Find out whether the boards that a recipe asks for are there, before anything is started.

    Raises:
        UsageError: a package is not installed.
    """
    for name in ("tensorboard", "wandb"):
        spec = find_spec(name) if getattr(watch, name) else None
        # A folder of that name, which wandb makes where it works, is found too, but has no origin.
        if getattr(watch, name) and (spec is None or spec.origin is None):
            raise UsageError(f"[watch] {name}: the package is not installed; pip install {name}, or take the line out")


def open_boards(run: Path, watch: LoggingConfig) -> list[Board]:
    """Return the boards that a recipe asks for; they begin with their first figures."""
    boards: list[Board] = [TensorBoard(run / "tensorboard")] if watch.tensorboard else []
    return [*boards, Wandb(run, watch.wandb)] if watch.wandb else boards


class TensorBoard:
    """Event files in a folder: `tensorboard --logdir runs` shows them."""

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None
        self._step = 0

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step; where the run went back, what was written of later steps is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None or step < self._step:
            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        self._step = step
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # it is looked at while the run goes on, and nobody closes it when a rank is killed


class Wandb:
    """A run of the same name in a project; a run that goes on is the same there."""

    name = "wandb"

    def __init__(self, run: Path, project: str) -> None:
        self.run = run
        self.project = project
        self._run: Any = None

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Send the figures of a step."""
        import wandb

        if self._run is None:
            name = self.run.name
            self._run = wandb.init(project=self.project, name=name, id=name, dir=self.run, resume="allow")
            # Its own count of steps cannot go back, as a run does that begins again from a checkpoint.
            self._run.define_metric("*", step_metric="step")
        self._run.log({"step": step, **figures})
