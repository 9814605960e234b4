"""The table of scorers. A scorer is a function of a SampledClip that returns one figure.

A user's own `my_package.scorers:sharpness` measures the metric `sharpness` by the same string.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from goku_cli.registry import load


@dataclass(frozen=True)
class Scorer:
    """What a scorer measures and where it is."""

    metric: str
    target: str
    version: int = 1
    """Raised when the figures change: older ones are then measured again."""
    images: bool = False
    """Whether it applies to a single frame."""


SCORERS = {
    "layout": Scorer("dino_sim", "goku_cli.filter.motion:layout_similarity"),
    "measured": Scorer("aesthetic", "goku_cli.filter.picture:measured_aesthetic", images=True),
    "rapidocr": Scorer("ocr_area", "goku_cli.filter.ocr:rapidocr_area", images=True),
    "dis": Scorer("motion", "goku_cli.filter.motion:dis_flow"),
    "black": Scorer("black", "goku_cli.filter.picture:black", images=True),
    "frozen": Scorer("frozen", "goku_cli.filter.motion:frozen", version=2),
    "letterbox": Scorer("letterbox", "goku_cli.filter.picture:letterbox", images=True),
    "shake": Scorer("shake", "goku_cli.filter.motion:shake"),
}


def resolve(name: str) -> Scorer:
    """Return the scorer of a name in the table, or of a `module:function`.

    Raises:
        UsageError: there is none.
    """
    function(name)
    return SCORERS.get(name) or Scorer(name.rpartition(":")[2], name, images=True)


def function(name: str) -> Callable[..., float]:
    """Import the function of a scorer."""
    targets: dict[str, Any] = {known: scorer.target for known, scorer in SCORERS.items()}
    return load(name, targets, "scorer")


def label(name: str) -> str:
    """Return what stands in the column `scorer`: the name and its version, such as `dis@1`."""
    return f"{name}@{resolve(name).version}"
