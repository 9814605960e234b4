"""Which run a recipe goes on with: one that learns the same, or the one that is named; real runs, edited between."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from encoded import make_encoded
from test_train import RECIPE as TOML
from test_train import goku

from goku_cli.errors import UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.model.network.presets import Recompute
from goku_cli.model.objective.objective import Objective
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import FaultTolerance, LoggingConfig, Parallel, Recipe, TrainConfig

TRAIN = TrainConfig(steps=4, tokens_per_step=120, lr=1e-3, warmup=2, save_every=4, eval_every=4, log_every=1)
RECIPE = Recipe("flow", TRAIN, size="nano")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_encoded(folder, videos=3, images=9)
    (folder / "r.toml").write_text(TOML.format(steps=4))
    done = goku(folder, "train", "r.toml", "small.duckdb", "--ranks", "1")
    assert done.returncode == 0, done.stderr
    return folder


def chosen(folder, recipe=RECIPE, **more):
    with Manifest(folder / "small.duckdb") as manifest:
        return prepare(manifest, "small", recipe, "r", folder / "runs", **more)


def begun(folder) -> Path:
    """The run that stands at step 4."""
    (run,) = (path.parent for path in folder.glob("runs/r-*/step-000004"))
    return run


def trained(**changes) -> Recipe:
    return replace(RECIPE, train=replace(TRAIN, **changes))


@pytest.mark.parametrize(
    "recipe",
    [
        trained(max_tokens=60, save_every=1, log_every=2, eval_every=1, keep=9, keep_every=2),
        trained(recompute=Recompute("full"), compile=True, attention="sdpa"),
        replace(RECIPE, parallel=Parallel(2), faults=FaultTolerance(restarts=9), watch=LoggingConfig(tensorboard=True)),
    ],
    ids=["steps' sizes and saving", "memory and kernels", "tables"],
)
def test_what_changes_nothing_of_what_is_learned_goes_on_with_the_same_run(folder, recipe):
    pytest.importorskip("tensorboard")
    found = chosen(folder, recipe)
    assert (found.folder, found.remark) == (begun(folder), "")


@pytest.mark.parametrize(
    ("recipe", "differs"),
    [
        (trained(steps=6), "train.steps"),
        (trained(lr=2e-3, betas=(0.8, 0.9)), "train.betas, train.lr"),
        (trained(bf16=True), "train.bf16"),
        (replace(RECIPE, model={"shared_modulation": True}), "model.shared_modulation"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_recipe_is_a_new_run_that_says_what_is_different(folder, recipe, differs):
    found = chosen(folder, recipe)
    run = begun(folder)
    assert found.folder != run
    assert f"{run} stands at step 4 and differs in {differs}; " in found.remark
    assert f"--continue {run}" in found.remark
    assert chosen(folder, recipe).folder == found.folder


def test_a_constant_rate_has_no_end_that_more_steps_would_move(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    for made in (tmp_path / "copy").glob("runs/*"):
        shutil.rmtree(made)
    few, more = (chosen(tmp_path / "copy", trained(schedule="constant", steps=n)) for n in (4, 8))
    assert few.folder == more.folder
    for step in (6, 8):
        saved = few.folder / f"step-{step:06d}"
        saved.mkdir()
        (saved / "COMPLETE.json").touch()
    assert chosen(tmp_path / "copy", trained(schedule="constant", steps=6)).finished == few.folder / "step-000006"
    with pytest.raises(UsageError, match="stands at step 8 already, and has no checkpoint of step 7; set steps"):
        chosen(tmp_path / "copy", trained(schedule="constant", steps=7))


def test_other_clips_are_a_new_run(folder):
    with Manifest(folder / "small.duckdb") as manifest:
        manifest.begin_run("test", {})
        rows = manifest.query("SELECT clip FROM selections ORDER BY clip")[1:]
        manifest.insert("selections", [{"name": "fewer", "clip": row["clip"], "weight": 1.0} for row in rows])
        found = prepare(manifest, "fewer", RECIPE, "r", folder / "runs")
    assert "differs in clips" in found.remark


def test_a_run_that_is_named_goes_on_with_more_steps(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    run = begun(tmp_path / "copy")
    (tmp_path / "copy" / "r.toml").write_text(TOML.format(steps=6))
    done = goku(
        tmp_path / "copy", "train", "r.toml", "small.duckdb#small", "--continue", f"runs/{run.name}", "--ranks", "1"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"runs/{run.name}/step-000006\n"
    assert f"runs/{run.name} goes on after step 4 with another train.steps" in done.stderr
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "loss" in line] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (RECIPE, ""),
        (trained(steps=3), "stands at step 4 already; give"),
        (replace(RECIPE, size="mini", train=replace(TRAIN, steps=9)), "cannot go on with another size"),
        (trained(steps=9, ema=(0.5,)), "cannot go on with another train.ema"),
        (replace(RECIPE, objective=Objective(predicts="data")), "cannot go on with another objective.predicts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_does_not_go_on_with_what_its_checkpoints_do_not_fit(folder, recipe, says):
    before = (begun(folder) / "recipe.json").read_text()
    if not says:
        assert chosen(folder, recipe, named=begun(folder)).finished
        return
    with pytest.raises(UsageError, match=re.escape(says)):
        chosen(folder, recipe, named=begun(folder))
    assert (begun(folder) / "recipe.json").read_text() == before


def test_what_is_no_run_cannot_go_on(folder):
    with pytest.raises(UsageError, match="nowhere is no run"):
        chosen(folder, named=Path("nowhere"))


def test_a_run_that_was_begun_before_samples_were_named_goes_on(folder):
    run = begun(folder)
    plan = json.loads((run / "recipe.json").read_text())
    named = plan.pop("samples")
    (run / "recipe.json").write_text(json.dumps(plan))
    assert isinstance(pd.read_parquet(run / "data.parquet")["text_keys"].iloc[0][0], str)
    assert chosen(folder).folder == run
    assert json.loads((run / "recipe.json").read_text())["samples"] == named


def test_latents_are_normalized_as_when_the_run_was_begun(folder):
    run = begun(folder)
    plan = json.loads((run / "recipe.json").read_text())
    plan["data"]["statistics"]["mean"][0] += 1.0
    (run / "recipe.json").write_text(json.dumps(plan))
    chosen(folder)
    assert json.loads((run / "recipe.json").read_text())["data"]["statistics"] == plan["data"]["statistics"]
