"""Sample lengths and model of a run, as given by hand, from a manifest, or from a run."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from goku_cli.errors import UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.model.network.packing import token_count
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.text.encoders import MAX_TOKENS
from goku_cli.model.weights import checkpoint
from goku_cli.recipe import build
from goku_cli.sizes import parse_size
from goku_cli.train.data.index import READ_ROWS
from goku_cli.train.forecast.forecast import Lengths, Machine, Plan
from goku_cli.train.prepare import check_predicts, latents_of
from goku_cli.train.recipe import Recipe, sized_model

CHANNELS = 16
"""Of the latents of Wan, CogVideoX and HunyuanVideo."""
TEXT_WIDTH = 2048
"""Of FLAN-T5-XL, the paper's."""


def plan_of_sizes(recipe: Recipe, machine: Machine, size: str, frames: int) -> Plan:
    """Plan for videos of so many frames of HEIGHTxWIDTH, and images of that size, with captions that fill the encoder.

    Raises:
        UsageError: a size or a number of frames that the VAEs do not take, or a checkpoint that is not there, or that
            predicts something else.
    """
    height, width = parse_size(size)
    if frames < 1 or frames % 4 != 1:
        raise UsageError(f"--frames must be 4k+1 (1, 5, 9, ..., 97), not {frames}")
    if recipe.size:
        config = sized_model(recipe, latent_channels=CHANNELS, text_dim=TEXT_WIDTH)
    else:
        found = checkpoint.resolve(Path(recipe.init_from))
        learned = checkpoint.read_config(found)
        check_predicts(recipe, found, learned)
        config = build(ModelConfig, {**learned["model"], **recipe.model}, where=f"{found}, [model]")
    image = token_count((0, 1, height // 8, width // 8))
    videos = {(image * (1 + frames // 4), MAX_TOKENS): 1.0} if frames > 1 else {}
    return Plan(recipe, config, ({(image, MAX_TOKENS): 1.0}, videos), machine)


def plan_of_manifest(recipe: Recipe, machine: Machine, manifest: Manifest, selection: str) -> Plan:
    """Plan for the latents of a selection.

    Raises:
        UsageError: as `plan.prepare`.
    """
    query, values, plan = latents_of(manifest, selection, recipe)
    counted = f"SELECT shape, text_tokens, sum(weight) AS weight FROM ({query}) GROUP BY shape, text_tokens"
    return _plan_of_rows(recipe, machine, plan["model"], manifest.query(counted, values))


def plan_of_run(run: Path, recipe: Recipe, machine: Machine) -> Plan:
    """Plan for what lies in a prepared run's folder."""
    plan = json.loads((run / "recipe.json").read_text())
    file = pq.ParquetFile(run / "data.parquet")
    pieces = file.iter_batches(READ_ROWS, columns=["shape", "weight", "text_tokens"])
    return _plan_of_rows(recipe, machine, plan["model"], (row for piece in pieces for row in piece.to_pylist()))


def _plan_of_rows(recipe: Recipe, machine: Machine, model: dict[str, Any], rows: Iterable[Mapping[str, Any]]) -> Plan:
    seen: tuple[Lengths, Lengths] = (Counter(), Counter())
    for row in rows:
        texts = row["text_tokens"]
        pair = token_count(row["shape"]), round(sum(texts) / len(texts))
        seen[int(row["shape"][1] > 1)][pair] += row["weight"]  # type: ignore[index]
    if not any(seen):
        raise UsageError("nothing to train on: no latent has an encoded caption")
    return Plan(recipe, build(ModelConfig, model, where="recipe.json"), seen, machine)
