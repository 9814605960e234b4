"""A training run as the files in its folder tell it, while it goes on or afterwards: figures, events and previews."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from goku_cli.errors import GokuError, UsageError
from goku_cli.jsonlines import entries
from goku_cli.report.charts import Curves, Plot, blocks, plot
from goku_cli.report.pictures import Player, player

CHARTS = {
    "loss": "loss|held_out_loss",
    "held-out loss by time": "held_out_loss_t.*",
    "held-out loss by kind": "held_out_loss_(images|videos)",
    "loss by time": "loss_t.*",
    "loss by kind": "loss_(images|videos)",
    "gradient norm": "norm|norm_clipped",
    "learning rate": "lr",
    "tokens/s": "tokens_per_second",
    "waiting for data": "data_wait",
    "balance of the ranks": "balance",
    "seconds to save": "save_.*seconds",
}
"""Charts and the figures that are drawn in each; every other figure has a chart of its own."""
PREVIEW_STEPS = 8
"""Most clips of one prompt: the first and the last, and others between them."""
PREVIEW_SIDE = 240
"""Pixels of the page that one of them takes: four stand side by side."""


@dataclass(frozen=True)
class Figure:
    """The newest value of a figure."""

    name: str
    value: float
    step: int
    course: str
    """All values so far, as a line of block characters."""


@dataclass(frozen=True)
class Event:
    """Something that went wrong, and what was done about it."""

    step: int
    when: str
    rank: int
    text: str


@dataclass(frozen=True)
class Preview:
    """What the model made of a prompt, step by step."""

    prompt: str
    drawn: list[tuple[int, Player]]


@dataclass(frozen=True)
class Training:
    """One run."""

    folder: Path
    step: int
    steps: int
    """Of the recipe."""
    recipe: dict[str, Any]
    figures: list[Figure]
    plots: list[Plot]
    events: list[Event]


def read_training(path: Path) -> Training:
    """Read a run's folder; a checkpoint's folder stands for its run.

    Raises:
        UsageError: no run's folder.
        GokuError: its recipe.json is damaged, or it has logged nothing yet.
    """
    folder = _run_folder(path)
    try:
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))["recipe"]
        steps = int(recipe["train"]["steps"])
    except (ValueError, KeyError, TypeError) as error:
        raise GokuError(f"{folder}/recipe.json is damaged ({error}); start the run again to write it anew") from error
    log = lasting(read_lines(folder / "metrics.jsonl"))
    if not log:
        raise GokuError(f"{folder} has no figures yet; what its ranks said is in {folder / 'launch.log'}")
    events = _events(folder)
    return Training(folder, log[-1]["step"], steps, recipe, _figures(log), _plots(log, events), events)


def _run_folder(path: Path) -> Path:
    for folder in (path, path.parent) if path.name.startswith("step-") else (path,):
        if (folder / "recipe.json").is_file():
            return folder
    raise UsageError(f"{path} is neither a manifest nor a run's folder (no recipe.json); e.g. runs/shapes-1a2b3c4d")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSON lines file that have a step; one that a kill or a full disk tore is left out."""
    found = entries(path.read_bytes()) if path.is_file() else []
    return [entry for entry in found if isinstance(entry.get("step"), int)]


def lasting(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines that count: a run that went back makes the steps that follow again."""
    kept: list[dict[str, Any]] = []
    for entry in log:
        while kept and kept[-1]["step"] > entry["step"]:
            kept.pop()
        kept.append(entry)
    return kept


def curves(log: list[dict[str, Any]]) -> Curves:
    """Return (step, value) of every figure; those of held-out clips come last, to be drawn over the others."""
    found: Curves = {}
    for entry in log:
        for name, value in entry.items():
            if name not in ("step", "at") and isinstance(value, int | float):
                found.setdefault(name, []).append((entry["step"], float(value)))
    return dict(sorted(found.items(), key=lambda item: (item[0].startswith("held_out"), item[0])))


def _figures(log: list[dict[str, Any]]) -> list[Figure]:
    return [
        Figure(name, points[-1][1], points[-1][0], blocks([value for _, value in points]))
        for name, points in sorted(curves(log).items(), key=lambda item: _chart(item[0]))
    ]


def _chart(name: str) -> tuple[int, str]:
    """Return the place of a figure's chart among all, and its title."""
    for place, (title, pattern) in enumerate(CHARTS.items()):
        if re.fullmatch(pattern, name):
            return place, title
    return len(CHARTS), name.replace("_", " ")


def _plots(log: list[dict[str, Any]], events: list[Event]) -> list[Plot]:
    charts: dict[tuple[int, str], Curves] = {}
    for name, points in curves(log).items():
        charts.setdefault(_chart(name), {})[name] = points
    marks: dict[int, str] = {}
    for event in events:
        marks[event.step] = f"{marks[event.step]}; {event.text}" if event.step in marks else event.text
    drawn = [plot(title, charts[place, title], marks, log[-1]["step"]) for place, title in sorted(charts)]
    return [chart for chart in drawn if chart is not None]


def _events(folder: Path) -> list[Event]:
    found = [entry for path in sorted(folder.glob("events-*.jsonl")) for entry in read_lines(path)]
    once: dict[tuple[int, str], dict[str, Any]] = {}  # what all ranks saw, the first of them tells
    for entry in found:
        once.setdefault((entry["step"], entry["event"]), entry)
    return [
        Event(entry["step"], f"{datetime.fromtimestamp(entry['at']):%Y-%m-%d %H:%M:%S}", entry["rank"], entry["event"])
        for entry in sorted(once.values(), key=lambda entry: entry["at"])
    ]


def previews(folder: Path) -> list[Preview]:
    """Return what a run drew while it learned; the prompts of the newest step first."""
    data = json.loads((folder / "recipe.json").read_text(encoding="utf-8")).get("data", {})
    steps = sorted(folder.glob("previews/step-*/prompts.json"), key=lambda path: int(path.parent.name[5:]))
    drawn: dict[str, list[tuple[int, Path]]] = {}
    for path in reversed(steps):
        for i, prompt in enumerate(json.loads(path.read_text(encoding="utf-8"))):
            found = next(iter(sorted(path.parent.glob(f"{i:02d}.*"))), None)
            if found is not None:
                drawn.setdefault(prompt, []).insert(0, (int(path.parent.name[5:]), found))
    return [Preview(prompt, _players(files, data.get("fps"))) for prompt, files in drawn.items()]


def _players(files: list[tuple[int, Path]], fps: float | None) -> list[tuple[int, Player]]:
    chosen = np.unique(np.linspace(0, len(files) - 1, PREVIEW_STEPS).round().astype(int))
    found = [(files[i][0], player(files[i][1], fps, PREVIEW_SIDE)) for i in chosen]
    return [(step, one) for step, one in found if one is not None]
