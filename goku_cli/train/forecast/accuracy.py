"""Forecast of a run, stored in its folder, beside what its log measured."""

import json
import statistics
from pathlib import Path
from typing import Any

from goku_cli.publish import publish
from goku_cli.train.forecast.forecast import Machine
from goku_cli.train.forecast.workload import plan_of_run
from goku_cli.train.logs.run_log import METRICS
from goku_cli.train.recipe import Recipe

FILE = "forecast.json"


def write_forecast(run: Path, recipe: Recipe, machine: Machine) -> None:
    """Write `forecast.json` of a prepared run that trains a transformer; of a VAE's run nothing is predicted."""
    if recipe.kind == "flow":
        figures = plan_of_run(run, recipe, machine).forecast().figures()
        with publish(run / FILE) as temporary:
            temporary.write_text(json.dumps(figures, indent=1) + "\n")


def compared(run: Path) -> str:
    """Return a sentence on the seconds and bytes that a run took, beside those that were predicted.

    Nothing when it ran without a GPU, or on one that hardware.py does not know.
    """
    if not (run / FILE).exists():
        return ""
    predicted = json.loads((run / FILE).read_text())
    if "step_seconds" not in predicted:
        return ""
    lines: list[dict[str, Any]] = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    rates = [line["steps_per_second"] for line in lines if "steps_per_second" in line]
    bytes_ = [line["memory_bytes"] for line in lines if "memory_bytes" in line]
    if not rates:
        return ""
    seconds = 1 / statistics.median(rates)
    told = (f"{seconds:.3g} s a step where {predicted['step_seconds']:.3g} s were predicted at an MFU of "
            f"{predicted['mfu']:.0%}")  # fmt: skip
    if bytes_:
        told += f"; {max(bytes_) / 2**30:.1f} GiB of a GPU where {predicted['memory_bytes'] / 2**30:.1f} GiB were"
    return told
