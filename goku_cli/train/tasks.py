"""From a run's folder to the task that its plan names."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goku_cli.errors import GokuError
from goku_cli.model import checkpoint
from goku_cli.model.codec import Statistics
from goku_cli.model.objective import Objective
from goku_cli.model.presets import ModelConfig
from goku_cli.model.transformer import Goku
from goku_cli.recipe import build
from goku_cli.train.classes import labels
from goku_cli.train.data import Latents
from goku_cli.train.flow_task import FlowTask
from goku_cli.train.index import Index, Place
from goku_cli.train.ranks import Ranks
from goku_cli.train.settings import Recipe
from goku_cli.train.step import Task
from goku_cli.train.steps import Steps
from goku_cli.train.vae_task import VaeTask


def make_task(run: Path, plan: dict[str, Any], recipe: Recipe, ranks: Ranks) -> Task:
    """Build the task that a run's plan names."""
    if recipe.kind == "vae":
        import pandas as pd

        return VaeTask(recipe, pd.read_parquet(run / "data.parquet"), ranks.rank, ranks.world)
    shown = recipe.flow
    frozen = build(Statistics, plan["data"]["statistics"], where="recipe.json")
    latents = Latents(
        Index.open(run / "index"), frozen, Path(plan["root"]), Place(*plan["null_text"]), seed=recipe.train.seed,
        image_share=shown.image_share, text_dropout=shown.text_dropout, image_dropout=shown.image_dropout,
        last_frame_share=shown.last_frame_share, sample_posterior=shown.sample_posterior, classes=labels(plan["data"]),
    )  # fmt: skip
    config = build(ModelConfig, plan["model"], where="recipe.json")
    objective = build(Objective, plan["objective"], where="recipe.json")
    task = FlowTask(Steps(recipe, config, objective, latents, ranks))
    if plan["init_from"]:
        begin_with(task.model, checkpoint.read_weights(Path(plan["init_from"]), "ema.safetensors"))
    if recipe.lora.rank:
        task.adapt(Path(plan["init_from"]))
    return task


def begin_with(model: Goku, weights: dict[str, Tensor]) -> None:
    """Load another run's weights; a first-frame layer that it did not have leaves its function as it was."""
    given = {name: value.float() for name, value in weights.items()}
    name = "condition_in.weight"
    if name in given and model.config.last_frame:  # columns that it did not have are zero
        wide = model.get_parameter(name).shape[1] - given[name].shape[1]
        given[name] = torch.nn.functional.pad(given[name], (0, wide))
    missing, unknown = model.load_state_dict(given, strict=False)
    if unknown or any(not name.startswith("condition_in.") for name in missing):
        raise GokuError(f"the weights of init_from do not fit: {[*missing, *unknown][:3]}")
