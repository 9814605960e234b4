"""What a step learns from does not depend on how many ranks share it, nor on how its samples are packed."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from encoded import make_encoded

from goku_cli.errors import GokuError
from goku_cli.manifest.shards import write_shard
from goku_cli.manifest.store import Manifest
from goku_cli.model.objective import Objective
from goku_cli.model.presets import ModelConfig
from goku_cli.recipe import build
from goku_cli.train.data import Index, Latents
from goku_cli.train.flow_task import FlowTask
from goku_cli.train.plan import prepare
from goku_cli.train.settings import Flow, Optimization, Recipe

RECIPE = Recipe("flow", Optimization(steps=4, tokens_per_step=200, lr=1e-3), size="nano", flow=Flow(text_dropout=0.3))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    with Manifest(make_encoded(folder)) as manifest:
        return prepare(manifest, "small", RECIPE, "task", folder / "runs")


def task(run, rank=0, world=1, **settings):
    import json

    plan = json.loads((run.folder / "recipe.json").read_text())
    recipe = replace(RECIPE, train=replace(RECIPE.train, **settings))
    index = Index.read(run.folder / "data.parquet")
    latents = Latents(
        index, run.folder.parent.parent, tuple(plan["null_text"]), seed=0, image_share=0.5, text_dropout=0.3
    )
    made = FlowTask(recipe, build(ModelConfig, plan["model"], where="plan"), Objective(), latents, rank, world)
    generator = torch.Generator().manual_seed(1)
    for parameter in made.model.parameters():  # awake: at the start all gradients but the last layer's are zero
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    return made


def gradients(tasks, step):
    """What the ranks' mean gradient is, as the engine computes it."""
    for one in tasks:
        for batch in one.batches(step):
            one.loss(one.model, batch).backward()
    columns = zip(*(list(one.model.parameters()) for one in tasks), strict=True)
    zero = torch.zeros(())
    return [sum(zero if p.grad is None else p.grad for p in column) / len(tasks) for column in columns]


@pytest.mark.parametrize(("world", "max_tokens"), [(2, 0), (3, 0), (1, 60), (2, 60)])
def test_another_number_of_ranks_or_packs_has_the_same_gradient(run, world, max_tokens):
    alone = gradients([task(run)], 3)
    shared = gradients([task(run, rank, world, max_tokens=max_tokens) for rank in range(world)], 3)
    for a, b in zip(alone, shared, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_noise_belongs_to_the_sample_and_the_step(run):
    one = task(run)
    draws = one.latents.draw(5, 200)
    assert draws == task(run).latents.draw(5, 200)
    noises = [one.latents.read(draw).x_0.flatten()[:8] for draw in draws]
    assert len({tuple(values.tolist()) for values in noises}) == len(draws)
    rows = [{draw.row for draw in one.latents.draw(step, 200)} for step in range(20)]
    shared = sum(len(a & b) / len(a) for a, b in itertools.pairwise(rows)) / 19
    assert shared < 0.5  # each step draws its own rows; about a quarter of so small a set is drawn in any step


def test_losses_are_told_by_time(run):
    one = task(run)
    for batch in one.batches(0):
        one.loss(one.model, batch)
    told = one.diagnose()
    assert any(name.startswith("loss_t0.") for name in told)
    assert told["balance"] == 1.0
    assert "loss_t0.5" not in one.diagnose()


def test_a_latent_with_nan_is_named(run, tmp_path):
    one = task(run)
    draw = one.latents.draw(0, 1)[0]
    entry = one.latents.index.train.iloc[draw.row]
    write_shard(tmp_path / entry["shard"], {entry["key"]: torch.full(tuple(entry["shape"]), float("nan")).numpy()})
    broken = Latents(one.latents.index, tmp_path, ("", ""), seed=0, image_share=0.5, text_dropout=0.0)
    with pytest.raises(GokuError, match=f"clip {entry['clip']}.*NaN"):
        broken.read(draw)


def test_rows_are_drawn_by_their_weight(run):
    one = task(run)
    latents = one.latents
    table = latents.index.train.copy()
    heavy = table.index[table["frames"] == 1][0]
    table.loc[heavy, "weight"] = 50.0
    skewed = Latents(replace(latents.index, train=table), Path(), ("", ""), seed=0, image_share=1.0, text_dropout=0.0)
    images = (table["frames"] == 1).sum()
    rows = [draw.row for step in range(20) for draw in skewed.draw(step, 200)]
    assert rows.count(heavy) / len(rows) == pytest.approx(50 / (50 + images - 1), abs=0.1)
