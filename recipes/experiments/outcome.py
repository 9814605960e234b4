"""What an experiment found: a table as JSON and a plot beside it, with the machine that they come from."""

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE / "results"
WORK = Path("experiments")
"""Everything that the experiments make: data, runs, samples."""

Row = dict[str, Any]


def goku(*words: str) -> str:
    """Run a command of goku, its talk on the terminal, and return the reference that it printed."""
    done = subprocess.run([sys.executable, "-m", "goku_cli", *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def machine() -> str:
    """Return what the figures were measured on."""
    cpu = next((line.partition(": ")[2] for line in _cpuinfo() if line.startswith("model name")), platform.processor())
    return f"{os.cpu_count()} x {cpu.strip()}, torch {version('torch')}, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def mean_and_range(rows: Sequence[Row], column: str, arm: str, measure: str) -> tuple[float, float, float]:
    """Return the mean of an arm's seeds, the least and the greatest."""
    values = [row[measure] for row in rows if row[column] == arm]
    return sum(values) / len(values), min(values), max(values)


def keep(name: str, question: str, rows: Sequence[Row], draw: Callable[[Any], None], panels: int = 1) -> None:
    """Write results/NAME.json and results/NAME.svg, and print the table."""
    RESULTS.mkdir(exist_ok=True)
    about = {"experiment": name, "question": question, "machine": machine(), "date": str(datetime.date.today())}
    (RESULTS / f"{name}.json").write_text(json.dumps(about | {"rows": list(rows)}, indent=1) + "\n")
    plt.rcParams["svg.hashsalt"] = name  # the same picture is the same file
    figure, axes = plt.subplots(1, panels, figsize=(4.6 * panels, 3.4), layout="constrained")
    draw(axes)
    figure.suptitle(question, fontsize=10)
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for line in [columns, *([_shown(row.get(key, "")) for key in columns] for row in rows)]:
        print("".join(f"{cell:>16}" for cell in line))  # noqa: T201


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
