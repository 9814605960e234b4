"""Experiment 2, the paper's 2B against 8B at toy size: three sizes of model, the same data and steps."""

from typing import Any

from outcome import Row, keep
from shapes_world import ATTRIBUTES, flops, make_data, scores, train

from goku_cli.model.checkpoint import read_config
from goku_cli.model.presets import ModelConfig
from goku_cli.model.transformer import Goku
from goku_cli.recipe import build

SIZES = ("nano", "small", "tiny")


def run() -> None:
    """Train the sizes and keep attributes and losses against FLOPs."""
    make_data()
    rows: list[Row] = []
    for size in SIZES:
        folder = train(f"sizes/{size}.toml")
        model = Goku(build(ModelConfig, read_config(folder)["model"], where=str(folder)))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        rows.append({"size": size, "parameters": parameters, "flops": flops(folder)} | scores(folder))
    keep("sizes", "Model size at equal steps", rows, lambda axes: plot(axes, rows), panels=2)


def plot(axes: Any, rows: list[Row]) -> None:
    """Draw what is right, and the held-out loss, against the operations of training."""
    spent = [row["flops"] for row in rows]
    for name in ATTRIBUTES:
        axes[0].plot(spent, [row[name] for row in rows], marker="o", label=name)
    axes[1].plot(spent, [row["loss"] for row in rows], marker="o", color="black")
    for axis, label in zip(axes, ("share right", "held-out loss"), strict=True):
        axis.set(xscale="log", xlabel="FLOPs of training", ylabel=label)
        axis.grid(alpha=0.3)
        axis.set_xticks(spent, [f"{row['size']}\n{row['flops']:.1e}" for row in rows])
        axis.minorticks_off()
    axes[0].legend()
