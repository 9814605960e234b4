"""Experiment 2, the paper's 2B against 8B at toy size: three sizes of model, the same data and steps."""

from typing import Any

import numpy as np
from outcome import Row, keep, mean_and_range
from shapes_world import ATTRIBUTES, SEEDS, flops, make_data, scores, train

from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import Goku
from goku_cli.model.weights.checkpoint import read_config
from goku_cli.recipe import build

SIZES = {"nano": SEEDS, "mini": SEEDS, "tiny": SEEDS[:1]}
"""With their seeds: the largest is one run of more than ten minutes."""


def run() -> None:
    """Train the sizes and keep attributes and losses against FLOPs."""
    make_data()
    rows: list[Row] = []
    for size, seed in ((size, seed) for size, seeds in SIZES.items() for seed in seeds):
        folder = train(f"sizes/{size}.toml", seed=seed)
        model = Goku(build(ModelConfig, read_config(folder)["model"], where=str(folder)))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        about = {"size": size, "seed": seed, "parameters": parameters, "flops": flops(folder)}
        rows.append(about | scores(folder))
    keep("sizes", "Model size at equal steps", rows, lambda axes: plot(axes, rows), panels=2)


def plot(axes: Any, rows: list[Row]) -> None:
    """Draw what is right, and the held-out loss, against the operations of training: the seeds' mean and range."""
    spent = [mean_and_range(rows, "size", size, "flops")[0] for size in SIZES]
    for axis, names in zip(axes, (ATTRIBUTES, ("loss",)), strict=True):
        for name in names:
            found = np.array([mean_and_range(rows, "size", size, name) for size in SIZES])
            axis.plot(spent, found[:, 0], marker="o", label=name, color="black" if name == "loss" else None)
            axis.fill_between(spent, found[:, 1], found[:, 2], alpha=0.2)
    for axis, label in zip(axes, ("share right", "held-out loss"), strict=True):
        axis.set(xscale="log", xlabel="FLOPs of training", ylabel=label)
        axis.grid(alpha=0.3)
        axis.set_xticks(spent, [f"{size}\n{at:.1e}" for size, at in zip(SIZES, spent, strict=True)])
        axis.minorticks_off()
    axes[0].legend()
