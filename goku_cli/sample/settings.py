"""How samples are drawn; the defaults of `goku sample`."""

from dataclasses import dataclass

from goku_cli.errors import UsageError
from goku_cli.model.solvers import check_solver


@dataclass(frozen=True)
class SampleSettings:
    """Everything that a sample's content depends on beside the checkpoint, the prompt and the seed."""

    steps: int = 25
    guidance: float = 3.0
    """Classifier-free guidance; 1 is none and costs half."""
    frames: int = 0
    """4k + 1, 1 for an image; 0 takes what the checkpoint was trained on."""
    size: str = ""
    """HEIGHTxWIDTH; empty takes what the checkpoint was trained on."""
    weights: str = "ema"
    solver: str = "euler"
    """Row of the table of solvers (model/solvers.py)."""
    tile: int = 0
    """Side in pixels of the squares that the VAE decodes in, to save memory; 0 decodes whole frames."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError("--steps must be at least 1")
        if self.frames and self.frames % 4 != 1:
            raise UsageError(f"--frames must be 4k+1 (1, 5, 9, ..., 97), not {self.frames}")
        check_solver(self.solver)
