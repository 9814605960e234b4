"""The table of clip metrics, and one sample's scores by them.

A metric is a function of (frames (T, H, W, 3) uint8 RGB, frames per second, the sample's row) that returns a number,
or None where it does not apply. Anybody's own works by the same string: `goku eval --metric my_package.metrics:sharp`.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from goku_cli.errors import Cause, Fault
from goku_cli.evaluate.protocols import FAMILY
from goku_cli.manifest.store import Row
from goku_cli.registry import load

Metric = Callable[[np.ndarray, float, Row], float | None]

METRICS = {
    name: f"goku_cli.evaluate.clips.video:{name}"
    for name in (
        "as_asked", "flicker", "moves_dis", "motion_score", "warp_error_dis", "acceleration_dis", "sharpness",
        "black_share", "frozen_share", "ssim_first",
    )
}  # fmt: skip
"""All of them need no weights, and are what `goku eval` takes by default."""
SUITE = "video"


def metric(name: str) -> Metric:
    """Return a metric of the table, or the user's own `module:function`.

    Raises:
        UsageError: there is none.
    """
    # Metrics of whole sets are parted from these before; here they are for a wrong name to find its neighbor.
    return load(name, METRICS | dict.fromkeys(FAMILY, ""), "metric")


def title(name: str) -> str:
    """Return what a metric's scores are kept under: a user's own keep their full name, which no other has."""
    if name in FAMILY:
        return f"{FAMILY[name]}.{name}"
    return f"{SUITE}.{name}" if name in METRICS else name


def scores(names: Iterable[str], frames: np.ndarray, row: Row) -> dict[str, float | None]:
    """Return a sample's score by each metric, by title.

    Raises:
        Fault: INTERNAL, when a metric returns what is not a finite number.
    """
    found: dict[str, float | None] = {}
    for name in names:
        value = metric(name)(frames, row["fps"], row)
        if value is not None and not math.isfinite(value):
            raise Fault(Cause.INTERNAL, f"metric {name} gave {value}")
        found[title(name)] = None if value is None else float(value)
    return found
