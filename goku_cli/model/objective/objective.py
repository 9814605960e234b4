"""What training and sampling must agree on, as light dataclasses: they are read before torch is, and stored in
every checkpoint. `process.py` has what follows from them.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from goku_cli.errors import UsageError
from goku_cli.model.objective.shift import ShiftLaw
from goku_cli.registry import nearest

KINDS = ("flow", "ddpm-v", "ddpm-eps")
PREDICTS = ("velocity", "data")
SCHEDULES = ("linear", "cosine")
DENSITIES = {
    "logit-normal": "goku_cli.model.objective.density:logit_normal",
    "uniform": "goku_cli.model.objective.density:uniform",
    "mode": "goku_cli.model.objective.density:mode",
}
MODE_SCALES = (-1.0, 2 / (math.pi - 2))
"""Between these the mode density's quantile function is monotone (SD3, section 3.1)."""


@dataclass(frozen=True)
class Density:
    """How often training visits a time, before the shift; t = 0 is noise.

    Raises:
        UsageError: an unknown name, or a parameter outside its range.
    """

    name: str = "logit-normal"
    """logit-normal, uniform or mode"""
    loc: float = 0.0
    """Of logit-normal: the mean of logit(t); below 0 means more noise."""
    scale: float = 1.0
    """Of logit-normal: the standard deviation of logit(t). Of mode: SD3's s, where 0 is uniform."""

    def __post_init__(self) -> None:
        _check("density.name", self.name, DENSITIES)
        if not math.isfinite(self.loc):
            raise UsageError(f"density.loc must be a finite number, not {self.loc}")
        low, high = MODE_SCALES
        if self.name == "mode" and not low <= self.scale <= high:
            raise UsageError(f"density.scale of mode must be from {low:g} to {high:.4g}, not {self.scale:g}")
        if self.name == "logit-normal" and not 0 < self.scale < math.inf:
            raise UsageError(f"density.scale of logit-normal must be above 0, not {self.scale:g}")


@dataclass(frozen=True)
class Objective:
    """What the network predicts, of which mixtures of data and noise.

    Raises:
        UsageError: an unknown kind, schedule or prediction, or one that is not for that kind.
    """

    kind: str = "flow"
    """flow (the paper's), or its baseline in Table 2: ddpm-v, ddpm-eps"""
    schedule: str = "linear"
    """Of the DDPM kinds: linear, or cosine."""
    density: Density | None = None
    """How often training visits a time; None: as its kind has it, logit-normal for flow (Esser et al. 2024), and
    uniform for DDPM (Ho et al. 2020)."""
    shift: ShiftLaw = field(default_factory=ShiftLaw)
    predicts: str = "velocity"
    """Of the flow's network: velocity, the paper's; or data, whose loss is still the velocity's."""

    def __post_init__(self) -> None:
        _check("objective.kind", self.kind, KINDS)
        _check("objective.schedule", self.schedule, SCHEDULES)
        _check("objective.predicts", self.predicts, PREDICTS)
        if self.kind != "flow" and self.predicts != "velocity":
            raise UsageError(f'objective.predicts = "{self.predicts}" is for kind = "flow", not "{self.kind}"; leave '
                             "predicts out")  # fmt: skip

    @property
    def times(self) -> Density:
        """The density of the training times."""
        return self.density or Density("logit-normal" if self.kind == "flow" else "uniform")


def _check(key: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise UsageError(f'{key} must be one of {", ".join(known)}, not "{name}"{nearest(name, list(known))}')
