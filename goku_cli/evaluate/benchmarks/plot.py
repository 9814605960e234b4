"""Bars of a run beside what was published (the only import of matplotlib)."""

import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from goku_cli.evaluate.benchmarks.published import PAPER, Comparison
from goku_cli.publish import publish

ACROSS = 4
"""Metrics side by side."""
RUN, PAPERS, OTHERS = "#d1495b", "#00798c", "#c9ced6"
# Names of sets are text, whatever signs are in them; and the same figures give the same file.
PLAIN: Any = {"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "goku", "font.size": 7}


def write_bars(comparison: Comparison, path: Path) -> None:
    """Publish an SVG with a panel for each metric, in which every model that has a figure is a bar."""
    *_, run = comparison.rows
    down = math.ceil(len(comparison.metrics) / ACROSS)
    with matplotlib.rc_context(PLAIN), publish(path) as temporary:
        page = Figure(figsize=(4 * ACROSS, (0.17 * len(comparison.rows) + 0.7) * down), layout="constrained")
        page.suptitle(f"{comparison.title}: {comparison.conditions}")
        for i, metric in enumerate(comparison.metrics):
            axes = page.add_subplot(down, ACROSS, i + 1)
            values = {name: row[i] for name, row in comparison.rows.items() if not math.isnan(row[i])}
            colors = [RUN if name == run else PAPERS if name.startswith(PAPER) else OTHERS for name in values]
            bars = axes.barh(list(values), list(values.values()), color=colors)
            axes.bar_label(bars, fmt="%.4g", padding=2)
            axes.margins(x=0.18)
            axes.set_title(metric + (" (less is better)" if metric in comparison.lower else ""))
            axes.spines[["top", "right"]].set_visible(False)
        page.savefig(temporary, format="svg", metadata={"Date": None})
