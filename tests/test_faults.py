"""What goes wrong in a run of weeks, done to short ones: it is told and survived, and nothing is lost in silence."""

import json
import os
import resource
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from at_work import ranks_do, train_all
from encoded import make_encoded
from test_resume import RECIPE, stopped_at, told

from goku_cli.errors import GokuError
from goku_cli.manifest.store import Manifest
from goku_cli.model.weights import checkpoint
from goku_cli.train.logs.spikes import Spikes
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import FaultTolerance

FAULTS = FaultTolerance(spike=20.0, spike_after=3, rollback_after=2, restarts=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    make_encoded(folder)
    return folder


def prepared(folder: Path, name: str, faults: FaultTolerance = FAULTS, **train: object) -> Path:
    recipe = replace(RECIPE, train=replace(RECIPE.train, steps=10, **train), faults=faults)
    with Manifest(folder / "small.duckdb") as manifest:
        return prepare(manifest, "small", recipe, name, folder / "runs").folder


def events(run: Path) -> list[str]:
    lines = [line for path in sorted(run.glob("events-*")) for line in path.read_text().splitlines()]
    return [json.loads(line)["event"] for line in lines]


def on_a_slow_disk(rank: int, run: Path) -> None:
    """Train while the first rank's disk takes a second for every file: far longer than the steps between two saves."""
    from goku_cli.train import trainer
    from goku_cli.train.distributed import checkpointer

    quick, patience = checkpointer.save_file, trainer.PATIENCE_SECONDS

    def slow(*arguments: object) -> None:
        time.sleep(1.0 if rank == 0 else 0.0)
        quick(*arguments)

    checkpointer.save_file, trainer.PATIENCE_SECONDS = slow, 0.2
    trainer.Trainer(run).train()
    checkpointer.save_file, trainer.PATIENCE_SECONDS = quick, patience


def harmed(rank: int, runs: dict[str, Path]) -> None:
    """Train while the loss is not a number, or far too large, on one of the ranks; and on a disk that is full."""
    from goku_cli.train.trainer import Trainer

    def spoil(name: str, steps: tuple[int, ...], factor: float) -> None:
        trainer = Trainer(runs[name])
        loss = trainer.task.loss
        trainer.task.loss = lambda model, batch: (
            loss(model, batch) * (factor if rank == 1 and trainer.step in steps and not trainer.rollbacks else 1.0)
        )
        trainer.train()

    spoil("nan", (4,), float("nan"))
    spoil("spike", (6, 7), 1e6)
    trainer = Trainer(runs["full"])
    save = trainer.save

    def on_a_full_disk() -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if trainer.step == 6 and rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        save()
        trainer.checkpointer.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    trainer.save = on_a_full_disk
    trainer.train()
    on_a_slow_disk(rank, runs["slow"])
    for name in ("always", "never saved"):
        trainer = Trainer(runs[name])
        loss = trainer.task.loss
        trainer.task.loss = lambda model, batch, trainer=trainer, loss=loss: (
            loss(model, batch) * (float("nan") if trainer.step > 3 else 1.0)
        )
        with pytest.raises(GokuError, match="steps in a row were left out.*not finite.*lower lr"):
            trainer.train()


@pytest.fixture(scope="module")
def runs(folder):
    runs = {name: prepared(folder, name) for name in ("nan", "full", "always")}
    runs["spike"] = prepared(folder, "spike", save_every=4)
    runs["slow"] = prepared(folder, "slow", save_every=2)
    runs["never saved"] = prepared(folder, "unsaved", save_every=10)
    runs = {name: run.rename(run.with_name(name)) if run.exists() else run for name, run in runs.items()}
    ranks_do(2, harmed, runs)
    return runs


def test_a_step_that_is_not_finite_is_left_out(runs):
    assert [what for what in events(runs["nan"]) if "left out" in what] == [
        "step 5 was left out: the loss is not finite"
    ]
    figures = checkpoint.read_config(checkpoint.resolve(runs["nan"]))["figures"]
    assert figures["held_out_loss"] < figures["held_out_loss_untrained"]
    weights = checkpoint.read_weights(checkpoint.resolve(runs["nan"]), "model.safetensors")
    assert all(torch.isfinite(x).all() for x in weights.values())


def test_after_several_spikes_the_run_goes_back_and_takes_other_data(runs):
    said = "\n".join(events(runs["spike"]))
    assert "step 7 was left out: the loss is" in said
    assert "went back from step 8 to 4, and goes on with the data after step 8" in said
    state = json.loads((runs["spike"] / "step-000010" / "state.json").read_text())
    assert state["rollbacks"] == 1
    straight = json.loads((runs["nan"] / "step-000010" / "state.json").read_text())
    assert sum(state["position"]) > sum(straight["position"])


def test_a_checkpoint_that_does_not_fit_the_disk_is_told_and_the_next_one_is_written(runs):
    said = "\n".join(events(runs["full"]))
    assert "the checkpoint of step 6 was not written" in said
    assert not (runs["full"] / "step-000006").exists()
    for step in (5, 7, 10):
        checkpoint.verify(runs["full"] / f"step-{step:06d}")


def test_steps_do_not_wait_for_a_slow_disk(runs):
    run = runs["slow"]
    said = [what for what in events(run) if "no checkpoint of step" in what]
    assert said[0] == "no checkpoint of step 4: the one before is still being written; raise save_every"
    assert len(said) == 3
    blocked = [blocked for step, blocked in told(run, "save_blocked_seconds").items()]
    assert len(blocked) >= 4 and max(blocked) < 0.7
    assert [path.name for path in checkpoint.checkpoints(run)] == ["step-000002", "step-000010"]
    for path in checkpoint.checkpoints(run):
        checkpoint.verify(path)


def test_a_damaged_checkpoint_is_set_aside(runs, tmp_path):
    whole = runs["full"]
    run = stopped_at(whole, 8, "damaged")
    path = next((run / "step-000008").glob("optimizer-00001-*"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    ranks_do(2, train_all, [run])
    assert "optimizer-00001-of-00002.safetensors is damaged" in "\n".join(events(run))
    assert (run / "damaged-step-000008").is_dir()
    assert told(run, "loss") == {step: loss for step, loss in told(whole, "loss").items() if step > 7}


def test_ranks_that_hang_are_started_again(folder):
    (folder / "hung.toml").write_text(
        'kind = "flow"\nsize = "nano"\n[train]\nsteps = 60\ntokens_per_step = 120\nlr = 1e-3\nsave_every = 10\n'
        "[faults]\nhang_seconds = 10\nrestarts = 2\n"
    )
    command = ["goku", "train", "hung.toml", "small.duckdb", "--ranks", "2"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (found := list((folder / "runs").glob("hung-*/step-000010/COMPLETE.json"))):
        time.sleep(0.05)
    os.kill(int((found[0].parents[1] / "beat-00001").read_text().split()[0]), signal.SIGSTOP)
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert printed.strip().endswith("step-000060")
    assert "no heartbeat from any rank for 10 s: rank 0 in step" in said
    assert "starting again from the newest checkpoint (1 of 2)" in said


def test_the_threshold_follows_the_run():
    spikes = Spikes(deviations=5.0, after=50)
    generator = torch.Generator().manual_seed(0)
    for i in range(2_000):  # the norm falls a hundredfold, and swings by a tenth
        level = 0.01 ** (i / 2_000)
        assert not spikes.judge(level, float(level * (1 + 0.1 * torch.randn((), generator=generator))))
    assert "gradient norm is 0.1, above" in spikes.judge(0.01, 0.1)
    assert spikes.judge(float("nan"), 0.01) == "the loss is not finite"
    assert spikes.in_a_row == 2
    again = Spikes(5.0, 50)
    again.load_state(spikes.state())
    assert again.judge(0.01, 0.1) == spikes.judge(0.01, 0.1)
