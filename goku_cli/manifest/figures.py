"""Rows of the table `results` laid out as people read them: a line per metric, a column per tag."""

from collections import Counter
from typing import Any

from goku_cli.manifest.store import Row


def pivot(figures: list[Row]) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and lines of a table, in order of appearance; "" where there is no figure.

    Tags that few metrics have (one task, one kind of defect) are left to the table `results`, unless a metric has
    no other.
    """
    metrics = list(dict.fromkeys(figure["metric"] for figure in figures))
    counts = Counter(figure["tag"] for figure in figures)
    common = {tag for tag in counts if counts[tag] * 3 >= len(metrics)}
    values = {(figure["metric"], figure["tag"]): figure["value"] for figure in figures}
    lonely = {metric for metric in metrics if not any((metric, tag) in values for tag in common)}
    tags = [tag for tag in counts if tag in common or any((metric, tag) in values for metric in lonely)]
    return ["metric", *tags], [[metric, *(values.get((metric, tag), "") for tag in tags)] for metric in metrics]
