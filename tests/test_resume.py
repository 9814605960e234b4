"""A run that was stopped goes on as if it had not been: the same losses, bit for bit, at every ZeRO stage."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from at_work import ranks_do, train_all
from encoded import make_encoded

from goku_cli.errors import UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import Flow, Parallel, Recipe, TrainConfig

STEPS = 9
STOPS = (1, 5, 8)
RECIPE = Recipe(
    "flow", size="nano", flow=Flow(text_dropout=0.3, image_share=0.5),
    train=TrainConfig(
        steps=STEPS, tokens_per_step=120, lr=3e-3, warmup=2, ema=(0.9, 0.99), save_every=1, keep=99, log_every=1,
        eval_every=4, max_tokens=60,
    ),
)  # fmt: skip


def prepared(folder: Path, name: str, optimizer: str = "adamw", **parallel: int) -> Path:
    train = replace(RECIPE.train, optimizer=optimizer)
    recipe = replace(RECIPE, train=train, parallel=Parallel(**parallel))
    with Manifest(folder / "small.duckdb") as manifest:
        return prepare(manifest, "small", recipe, name, folder / "runs").folder


def stopped_at(run: Path, step: int, name: str, **parallel: int) -> Path:
    """Return a copy of a run as it was when it had just saved that step."""
    copy = run.with_name(name)
    shutil.copytree(
        run, copy, ignore=lambda _, names: [n for n in names if n.startswith("step-") and int(n[5:11]) > step]
    )
    (copy / "metrics.jsonl").unlink()
    torn = copy / f".step-{step + 1:06d}"  # and as if it had been killed while it saved the next
    torn.mkdir()
    shutil.copy(run / f"step-{step:06d}" / "model.safetensors", torn / "rank-00000.model.safetensors")
    (torn / "rank-00000.done").touch()
    plan = json.loads((copy / "recipe.json").read_text())
    plan["recipe"]["parallel"] = asdict(Parallel(**parallel))
    (copy / "recipe.json").write_text(json.dumps(plan))
    return copy


def told(run: Path, what: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[what] for line in lines if what in line}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of every stage on two ranks, whole and resumed, and then resumed on one rank."""
    folder = tmp_path_factory.mktemp("resume")
    make_encoded(folder)
    whole = {stage: prepared(folder, f"stage{stage}", zero_stage=stage) for stage in range(4)}
    for stage, run in whole.items():  # the name is that of what is learned, which is the same
        whole[stage] = shutil.copytree(run, folder / "runs" / f"whole{stage}")
    muon = prepared(folder, "muon", "muon", zero_stage=0).rename(folder / "runs" / "wholemuon")
    ranks_do(2, train_all, [*whole.values(), muon])
    again = [
        stopped_at(run, step, f"again{stage}-{step}", zero_stage=stage)
        for stage, run in whole.items()
        for step in (STOPS if stage == 1 else (5,))
    ]
    ranks_do(2, train_all, [*again, stopped_at(muon, 5, "againmuon-5", zero_stage=0)])
    ranks_do(2, train_all, [stopped_at(whole[1], 5, "read-elsewhere", zero_stage=1, readers=2)])
    other = [stopped_at(run, 5, f"alone{stage}", zero_stage=(stage + 1) % 4) for stage, run in whole.items()]
    ranks_do(1, train_all, other)
    return folder / "runs"


@pytest.mark.parametrize(("stage", "step"), [(0, 5), (1, 1), (1, 5), (1, 8), (2, 5), (3, 5), ("muon", 5)])
def test_a_resumed_run_has_the_same_losses_bit_for_bit(folder, stage, step):
    whole, again = folder / f"whole{stage}", folder / f"again{stage}-{step}"
    for what in ("loss", "norm", "held_out_loss"):
        expected = {at: value for at, value in told(whole, what).items() if at > step}
        assert told(again, what) == expected
    for name in ("model.safetensors", "ema.safetensors", "ema-0.99.safetensors"):
        path = f"step-{STEPS:06d}/{name}"
        assert (again / path).read_bytes() == (whole / path).read_bytes()


def test_processes_that_read_ahead_read_the_same(folder):
    for what in ("loss", "norm", "held_out_loss"):
        expected = {at: value for at, value in told(folder / "whole1", what).items() if at > 5}
        assert told(folder / "read-elsewhere", what) == expected


@pytest.mark.parametrize("stage", range(4))
def test_another_number_of_ranks_and_another_stage_go_on_with_the_same_data(folder, stage):
    whole, alone = folder / f"whole{stage}", folder / f"alone{stage}"
    expected = {at: value for at, value in told(whole, "loss").items() if at > 5}
    assert told(alone, "loss") == pytest.approx(expected, rel=1e-5)
    assert told(alone, "tokens") == {at: n for at, n in told(whole, "tokens").items() if at > 5}


def test_stages_learn_the_same(folder):
    for stage in (1, 2, 3):
        assert told(folder / f"whole{stage}", "loss") == pytest.approx(told(folder / "whole0", "loss"), rel=1e-5)


def test_muon_learns_otherwise_and_as_well(folder):
    adamw, muon = (told(folder / name, "held_out_loss")[STEPS] for name in ("whole0", "wholemuon"))
    untrained = told(folder / "whole0", "held_out_loss")[0]
    assert adamw != muon
    assert muon < untrained
    with pytest.raises(UsageError, match="whole matrices"):
        replace(RECIPE, train=replace(RECIPE.train, optimizer="muon"))


def test_the_data_passed_an_epoch(folder):
    state = json.loads((folder / "whole1" / f"step-{STEPS:06d}" / "state.json").read_text())
    assert state["position"][1] > 6  # videos: every one was drawn, and a second time begun
