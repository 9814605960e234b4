"""Chart geometry: positions of bars and lines in the units of the drawing; the page only draws them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

WIDTH, HEIGHT = 300.0, 110.0
BINS = 24
BLOCKS = "▁▂▃▄▅▆▇█"
COURSE = 24
"""Characters of a curve in a terminal."""

Curves = dict[str, list[tuple[int, float]]]
"""(step, value) of every figure, by name."""


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram, from the top left."""

    x: float
    y: float
    width: float
    height: float
    count: int


@dataclass(frozen=True)
class Mark:
    """A vertical line at a threshold, or where something happened."""

    x: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """A histogram of one metric."""

    metric: str
    count: int
    low: float
    high: float
    bars: list[Bar]
    marks: list[Mark]


@dataclass(frozen=True)
class Line:
    """One curve, as the points of a polyline."""

    label: str
    points: str
    last: float


@dataclass(frozen=True)
class Plot:
    """Curves that share axes."""

    title: str
    low: float
    high: float
    steps: int
    lines: list[Line]
    marks: list[Mark]


def histogram(metric: str, values: list[float], limits: dict[str, float]) -> Histogram:
    """Lay out a histogram of finite values; `limits` are the thresholds to mark, by label."""
    low, high = min([*values, *limits.values()]), max([*values, *limits.values()])
    span = (high - low) or 1.0
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - low) / span * BINS))] += 1
    step, most = WIDTH / BINS, max(counts)
    bars = [
        Bar(i * step, HEIGHT - HEIGHT * count / most, step - 1, HEIGHT * count / most, count)
        for i, count in enumerate(counts)
        if count
    ]
    marks = [Mark((limit - low) / span * WIDTH, f"{label} {limit:g}") for label, limit in limits.items()]
    return Histogram(metric, len(values), low, high, bars, marks)


def plot(title: str, curves: Curves, events: Mapping[int, str] | None = None, steps: int = 0) -> Plot | None:
    """Lay out curves, and mark by step what happened; None when there is nothing finite to draw.

    The axis ends with the last point, or at least at `steps`.
    """
    finite = {
        label: [(step, value) for step, value in points if math.isfinite(value)] for label, points in curves.items()
    }
    drawn = {label: points for label, points in finite.items() if points}
    if not drawn:
        return None
    values = sorted(value for points in drawn.values() for _, value in points)
    # A first step that is far out must not flatten the rest: the axis ends at the 99th percentile.
    low, high = values[0], values[min(len(values) - 1, int(0.99 * len(values)))]
    steps = max(steps, *(step for points in drawn.values() for step, _ in points))
    lines = [Line(label, _polyline(points, steps, low, high), points[-1][1]) for label, points in drawn.items()]
    marks = [Mark(WIDTH * min(step, steps) / max(steps, 1), label) for step, label in (events or {}).items()]
    return Plot(title, low, high, steps, lines, marks)


def blocks(values: list[float]) -> str:
    """Draw finite values as a line of block characters, the newest at its end."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    count = min(COURSE, len(finite))
    chosen = [finite[(i + 1) * len(finite) // count - 1] for i in range(count)]
    low, span = min(chosen), (max(chosen) - min(chosen)) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in chosen)


def _polyline(points: list[tuple[int, float]], steps: int, low: float, high: float) -> str:
    every = max(1, len(points) // 400)
    return " ".join(
        f"{WIDTH * step / max(steps, 1):.1f},{HEIGHT * (1 - (min(value, high) - low) / ((high - low) or 1)):.1f}"
        for step, value in [*points[::every], points[-1]]
    )
