"""Rows of the table `results` laid out as people read them: a line per metric, a column per tag."""

from collections import Counter
from typing import Any

from goku_cli.manifest.store import Row

WHOLE = "all"
INTERVAL, NUMBER = "95 %", "n"
"""Columns after the figure of all samples: its interval, and how many it was counted over."""
CONTROLS = ("codec", "chance", "mismatched")
"""Tags beside which a figure says something, always columns and the last ones: what real clips score after the codec
(the ceiling), what a guesser would, and what the same samples score for other prompts."""


def pivot(figures: list[Row]) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and lines of a table, in order of appearance; "" where there is no figure.

    Tags that few metrics have (one task, one kind of defect) are left to the table `results`, unless they are controls
    or a metric has no other.
    """
    metrics = list(dict.fromkeys(figure["metric"] for figure in figures))
    counts = Counter(figure["tag"] for figure in figures)
    common = {tag for tag in counts if counts[tag] * 3 >= len(metrics) or tag in CONTROLS}
    values = {(figure["metric"], figure["tag"]): figure["value"] for figure in figures}
    lonely = {metric for metric in metrics if not any((metric, tag) in values for tag in common)}
    tags = [tag for tag in counts if tag in common or any((metric, tag) in values for metric in lonely)]
    beside = _of_the_whole(figures)
    values |= {(metric, column): cell for column, cells in beside.items() for metric, cell in cells.items()}
    parts = [tag for tag in tags if tag != WHOLE and tag not in CONTROLS]
    controls = [tag for tag in CONTROLS if tag in tags]
    columns = [*(tag for tag in tags if tag == WHOLE), *beside, *parts, *controls]
    return ["metric", *columns], [[metric, *(values.get((metric, name), "") for name in columns)] for metric in metrics]


def _of_the_whole(figures: list[Row]) -> dict[str, dict[str, Any]]:
    """Return by column what stands beside the figures of all samples; no column without a cell."""
    whole = [figure for figure in figures if figure["tag"] == WHOLE]
    sure = {f["metric"]: f"{f['low']:.4g} to {f['high']:.4g}" for f in whole if f.get("low") is not None}
    number = {f["metric"]: f["n"] for f in whole if f.get("n") is not None}
    return {name: cells for name, cells in ((INTERVAL, sure), (NUMBER, number)) if cells}
