"""Rows of the table `results` laid out as people read them: a line per metric, a column per tag."""

from collections import Counter
from typing import Any

from goku_cli.manifest.store import Row


def pivot(figures: list[Row]) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and lines of a table, in order of appearance; "" where there is no figure.

    Tags that few metrics have (one task, one kind of defect) are left to the table `results`.
    """
    metrics = list(dict.fromkeys(figure["metric"] for figure in figures))
    counts = Counter(figure["tag"] for figure in figures)
    tags = [tag for tag in counts if counts[tag] * 3 >= len(metrics)]
    values = {(figure["metric"], figure["tag"]): figure["value"] for figure in figures}
    lines = [[metric, *(values.get((metric, tag), "") for tag in tags)] for metric in metrics]
    return ["metric", *tags], [line for line in lines if any(cell != "" for cell in line[1:])]
