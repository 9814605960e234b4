"""From a run's folder to the task that its plan names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.objective.objective import Objective
from goku_cli.model.vae.codec import Statistics
from goku_cli.model.weights import checkpoint
from goku_cli.recipe import build
from goku_cli.train.data.batches import Steps
from goku_cli.train.data.class_labels import labels
from goku_cli.train.data.index import Index, TensorRef
from goku_cli.train.data.sampler import Latents
from goku_cli.train.distributed.sharded_init import build_model
from goku_cli.train.distributed.topology import Ranks
from goku_cli.train.recipe import Recipe
from goku_cli.train.task import Task
from goku_cli.train.tasks.flow import FlowTask

AVERAGED = "ema.safetensors"


def make_task(
    run: Path, plan: dict[str, Any], recipe: Recipe, ranks: Ranks, parting: Callable[[nn.Module], None] | None = None
) -> Task:
    """Build the task that a run's plan names; `parting` parts a piece of its model between the ranks."""
    parting = parting or nothing
    if recipe.kind == "vae":
        import pandas as pd

        from goku_cli.train.tasks.vae import VaeTask  # with the libraries of media, which latents do without

        return VaeTask(recipe, pd.read_parquet(run / "data.parquet"), ranks.rank, ranks.world)
    shown = recipe.flow
    frozen = build(Statistics, plan["data"]["statistics"], where="recipe.json")
    latents = Latents(
        Index.open(run / "index"), frozen, Path(plan["root"]), TensorRef(*plan["null_text"]), seed=recipe.train.seed,
        image_share=shown.image_share, text_dropout=shown.text_dropout, image_dropout=shown.image_dropout,
        last_frame_share=shown.last_frame_share, sample_posterior=shown.sample_posterior, classes=labels(plan["data"]),
    )  # fmt: skip
    config = build(ModelConfig, plan["model"], where="recipe.json")
    objective = build(Objective, plan["objective"], where="recipe.json")
    start = Path(plan["init_from"]) if plan["init_from"] else None
    weights = None
    if start is not None:  # one rank reads all of it for its sum, and the others wait for the model's collectives
        weights = checkpoint.verified(start, AVERAGED) if ranks.rank == 0 else start / AVERAGED
    # Adapters are put beside whole weights.
    model = build_model(config, recipe.train.seed, weights, nothing if recipe.lora.rank else parting)
    task = FlowTask(Steps(recipe, config, objective, latents, ranks), model)
    if recipe.lora.rank and start is not None:
        task.adapt(start)
    return task


def nothing(part: nn.Module) -> None:
    """Leave a part of the model whole."""
