"""`goku shift`: timesteps by resolution."""

import itertools
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import stdout, table
from goku_cli.cli.options import AsJson
from goku_cli.errors import UsageError

if TYPE_CHECKING:
    from goku_cli.model.objective.objective import Objective

SHIFT_SIZES = ("288x512", "480x864", "720x1280")
"""HEIGHTxWIDTH of the paper's three stages."""
SHIFT_FRAMES = (1, 49, 97, 241)
SHIFT_STEPS = 50


def shift(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE|CHECKPOINT]", help="Recipe or checkpoint; default: the default objective."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the timestep shift by resolution.

    How far times move towards noise for every size, the same in training and in sampling, and the share of times on
    either side; times run from 0, noise, to 1, data.

    Example: goku shift recipes/shapes.toml
    """
    objective, size, frames = _objective(source)
    from goku_cli.model.objective.process import median_time, sampling_times

    rows = []
    sizes = list(dict.fromkeys([*SHIFT_SIZES, *size]))
    lengths = sorted({*SHIFT_FRAMES, *frames})
    for name, length in itertools.product(sizes, lengths):
        height, width = (int(pixels) for pixels in name.split("x"))
        latent = (1, 1 + (length - 1) // 4, height // 8, width // 8)
        median = median_time(objective, latent)
        middle = float(sampling_times(objective, SHIFT_STEPS, [latent])[SHIFT_STEPS // 2])
        rows.append({
            "size": name, "frames": length, "shift": objective.shift.of(latent),
            "median_training_time": median, "middle_sampling_time": middle,
        })  # fmt: skip
    if as_json:
        sys.stdout.write(json.dumps({"objective": asdict(objective), "sizes": rows}) + "\n")
        return
    columns = ["size", *("image" if length == 1 else f"{length} frames" for length in lengths)]
    for title, cell in (
        ("shift", "{shift:.2f}"),
        (
            f"time: median of training / after {SHIFT_STEPS // 2} of {SHIFT_STEPS} sampling steps",
            "{median_training_time:.2f} / {middle_sampling_time:.2f}",
        ),
    ):
        lines = [[name, *(cell.format_map(row) for row in rows if row["size"] == name)] for name in sizes]
        table(title, columns, lines, to=stdout)


def _objective(source: str | None) -> tuple["Objective", list[str], list[int]]:
    """Return the objective of a recipe or a checkpoint, with the size and the frames that it names."""
    from goku_cli.model.objective.objective import Objective

    if source is None:
        return Objective(), [], []
    if Path(source).is_dir():
        from goku_cli.model.weights.checkpoint import read_config, resolve
        from goku_cli.sample.generate import objective_of

        folder = resolve(Path(source))
        config = read_config(folder)
        return objective_of(config, folder), [config["data"]["size"]], [int(config["data"]["frames"])]
    from goku_cli.recipe import find
    from goku_cli.train.recipe import load_recipe

    recipe = load_recipe(find(".", source))
    if recipe.kind != "flow":
        raise UsageError(f"{source} trains a VAE, which has no times; name a recipe of kind flow, e.g. shapes")
    if recipe.objective is None and recipe.init_from:
        return _objective(recipe.init_from)
    return recipe.objective or Objective(), [], []
