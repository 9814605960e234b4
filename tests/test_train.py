"""goku train with the real deepspeed launcher on CPU ranks, and goku sample and eval on what it made."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from encoded import make_encoded

from goku_cli.cli.train import _tell_run
from goku_cli.encode.encode import encode_latents
from goku_cli.encode.settings import EncodeSettings
from goku_cli.errors import UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.model.weights import checkpoint
from goku_cli.stage import Quiet
from goku_cli.train.distributed.optimizer import learning_rate
from goku_cli.train.prepare import Run, prepare
from goku_cli.train.recipe import Parallel, check_shard_group, load_recipe

RECIPE = """
kind = "flow"
size = "nano"
[train]
steps = {steps}
tokens_per_step = 120
lr = 1e-3
warmup = 2
save_every = 4
eval_every = 4
log_every = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    make_encoded(folder)
    return folder


def goku(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["goku", *words], cwd=folder, capture_output=True, text=True)


def recipe(folder: Path, name: str, steps: int) -> str:
    (folder / f"{name}.toml").write_text(RECIPE.format(steps=steps))
    return f"{name}.toml"


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def ranks_of(folder: Path, name: str) -> list[int]:
    """The processes of a run of this folder; tests of another checkout may have one of the same name."""
    asked = ["pgrep", "-f", f"goku_cli.train.trainer.*{folder}/runs/{name}-"]
    return [int(pid) for pid in subprocess.run(asked, capture_output=True, text=True).stdout.split()]


@pytest.fixture(scope="module")
def trained(folder) -> Path:
    done = goku(folder, "train", recipe(folder, "whole", 8), "small.duckdb")
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.strip()


def test_train_prints_a_whole_checkpoint(trained):
    assert trained.name == "step-000008"
    config = checkpoint.read_config(trained)
    assert config["step"] == 8
    assert config["figures"]["held_out_loss"] < 1.05 * config["figures"]["held_out_loss_untrained"]
    assert checkpoint.read_weights(trained, "ema.safetensors").keys() == config_keys(trained)


def config_keys(folder: Path) -> set[str]:
    return set(checkpoint.read_weights(folder, "model.safetensors"))


def test_again_starts_nothing(folder, trained):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = goku(folder, "train", "whole.toml", "small.duckdb")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (folder / again.stdout.strip()) == trained
    # Ranks would take this long to load their libraries; a neighbor makes it wait, which is not counted.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10


def test_a_manifest_that_another_command_holds_at_the_end_fails_nothing(folder, trained, capsys):
    hold = "with Manifest(Path('small.duckdb')): print(flush=True), input()"
    script = f"from pathlib import Path\nfrom goku_cli.manifest.store import Manifest\n{hold}"
    command = [sys.executable, "-c", script]
    holder = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    holder.stdout.readline()
    run = Run(trained.parent, load_recipe(folder / "whole.toml"), 30)
    _tell_run(run, folder / "small.duckdb", {}, 1.0, as_json=False)
    holder.communicate("\n")
    printed = capsys.readouterr()
    assert printed.out == f"{trained}\n"
    assert f"held by process {holder.pid}" in printed.err
    assert "the checkpoint is complete; the same command stores its metrics in the manifest" in printed.err


def test_ranks_that_were_killed_are_started_again_and_have_the_same_losses(folder, trained):
    name = recipe(folder, "killed", 8)  # the same content under another name: another run's folder
    process = subprocess.Popen(["goku", "train", name, "small.duckdb"], cwd=folder, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((folder / "runs").glob("killed-*/step-000004/COMPLETE.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for pid in ranks_of(folder, "killed"):
        os.kill(pid, signal.SIGKILL)
    assert process.wait(120) == 0
    run = next((folder / "runs").glob("killed-*"))
    assert losses(run) == losses(trained.parent)


def test_a_text_to_video_run_goes_on_as_image_to_video(folder, trained):
    """In packs that fit, on two ranks that meet after each, with blocks that are computed again."""
    body = RECIPE.format(steps=2).replace('size = "nano"', f'init_from = "{trained}"')
    extra = "max_tokens = 45\n"
    extra += "recompute = {policy = 'attention'}\n[parallel]\nzero_stage = 2\n[model]\nimage_condition = true\n"
    (folder / "image.toml").write_text(body + extra)
    done = goku(folder, "train", "image.toml", "small.duckdb", "--ranks", "2")
    assert done.returncode == 0, done.stderr
    config = checkpoint.read_config(folder / done.stdout.strip())
    assert config["model"]["image_condition"]
    assert config["objective"] == checkpoint.read_config(trained)["objective"]
    start, before = config["figures"]["held_out_loss_untrained"], checkpoint.read_config(trained)["figures"]
    assert start == pytest.approx(before["held_out_loss"], abs=1e-5)  # it begins as what it comes from


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('size = "tiny"\ninit_from = "{}"', "is no model of size tiny"),
        ('init_from = "nowhere"', "no checkpoint at nowhere"),
        ('init_from = "{}"\nattention = "x"', "unknown key"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(folder, trained, line, says):
    (folder / "wrong.toml").write_text(RECIPE.format(steps=2).replace('size = "nano"', line.format(trained)))
    done = goku(folder, "train", "wrong.toml", "small.duckdb")
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_recipe_that_compiles_wants_a_compiler(folder):
    (folder / "compiled.toml").write_text(RECIPE.format(steps=2) + "compile = true\n")
    (folder / "bare").mkdir()
    bare = {**os.environ, "PATH": str(folder / "bare"), "CXX": "none"}
    command = [shutil.which("goku"), "train", "compiled.toml", "small.duckdb"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=bare)
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a C++ compiler" in done.stderr


def test_interrupt_saves_and_leaves_no_process(folder):
    command = ["goku", "train", recipe(folder, "long", 100000), "small.duckdb", "--ranks", "2"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    while not list((folder / "runs").glob("long-*/step-000004/COMPLETE.json")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in talk
    assert ranks_of(folder, "long") == []
    run = next((folder / "runs").glob("long-*"))
    newest = checkpoint.resolve(run)
    checkpoint.verify(newest)
    assert int(newest.name[5:]) == max(losses(run))  # of the very last step
    assert not (run / "stop").exists()
    with Manifest(folder / "small.duckdb", read_only=True) as manifest:  # what it learned from is known all the same
        seen = manifest.value("SELECT max(step) FROM losses WHERE training = ?", [str(run)])
        assert seen == int(newest.name[5:]) - 1  # counted from 0
        assert manifest.value("SELECT status FROM runs ORDER BY id DESC LIMIT 1") == "interrupted"


def test_samples_are_files_with_rows_and_scores(folder, trained):
    ask = ["sample", str(trained), "--prompt", "a red circle moving left slowly", "--steps", "2", "--json"]
    first = goku(folder, *ask)
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert (summary["drawn"], summary["asked"]) == (1, 1)
    assert json.loads(goku(folder, *ask).stdout)["drawn"] == 0
    assert goku(folder, *ask, "--frames", "1").returncode == 0
    assert {path.suffix for path in (folder / "small.samples").iterdir()} == {".mp4", ".png"}
    scored = goku(folder, "eval", summary["reference"], "--json", "--bench", "shapes")
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["video"]["video.decodes/all"] == 1.0


def test_samples_depend_on_the_seed_alone(trained):
    from goku_cli.sample.generate import Generator, SampleSettings

    generator, how = Generator.load(trained), SampleSettings(steps=2)
    a, b = (generator.request("a red circle", seed, frames=1) for seed in (0, 1))
    together = {clip.request: clip.frames for clip in generator.generate([a, b], how)}
    alone = {clip.request: clip.frames for clip in generator.generate([b], how)}
    difference = torch.from_numpy(together[b]).int() - torch.from_numpy(alone[b]).int()
    assert difference.abs().max() <= 1
    assert (together[a] != together[b]).any()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "absent.toml", "small.duckdb"], "no recipe"),
        (["train", "typo.toml", "small.duckdb"], 'did you mean "steps"'),
        (["sample", "nowhere", "--prompt", "x"], "no checkpoint"),
        (["sample", "nowhere"], "exactly one way"),
        (["eval", "absent.duckdb"], "no manifest"),
        (["eval", "small.duckdb#x"], "no samples"),
        (["eval", "small.duckdb", "--bench", "vbench9"], "unknown benchmark"),
    ],
)
def test_wrong_usage_is_one_line(folder, words, says):
    (folder / "typo.toml").write_text('kind = "flow"\n[train]\nstpes = 1\n')
    done = goku(folder, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[parallel]\nzero_stage = 4", "zero_stage must be"),
        ("[parallel]\nshard_group = 2", "need zero_stage = 3"),
        ("[faults]\nspike = -1", "0 or more"),
        ("ema = [0.9, 0.9]", "different decays"),
        ("schedule = 'cosin'", "schedule must be one of"),
        ("bf16 = 1", "bf16 must be bool"),
        ("recompute = {policy = 'atention'}", "did you mean"),
        ("max_tokens = -1", "max_tokens must be"),
        ("[model]\nheads = 5", "5 heads do not divide the width 48"),
        ("[model]\nrope_split = [7, 9, 8]", "must be even"),
        ("[model]\nrope_split = [8, 8]", "three numbers"),
        ("[model]\nlayer = 5", 'unknown key "layer".*did you mean'),
        ("[objective.shift]\nbase = 0", "base"),
        ("[flow]\nimage_share = 1e-9", "image_share must be 0, 1 or between"),
        ("[flow]\ntext_dropout = 1.5", "text_dropout must be between 0 and 1"),
        ("eps = 0.0", "eps must be above 0"),
    ],
)
def test_recipes_that_cannot_run_are_refused(tmp_path, line, says):
    (tmp_path / "r.toml").write_text(RECIPE.format(steps=1) + line)
    with pytest.raises(UsageError, match=says):
        load_recipe(tmp_path / "r.toml")


def test_ranks_that_share_weights_leave_none_over():
    check_shard_group(Parallel(zero_stage=3, shard_group=2), 4)
    with pytest.raises(UsageError, match="shard_group = 3 does not divide 4 GPUs; take one of: 0, 2, 4"):
        check_shard_group(Parallel(zero_stage=3, shard_group=3), 4)


def test_a_run_is_named_by_what_differs_from_the_defaults(folder):
    said = RECIPE.format(steps=3)
    names = []
    for extra in (
        "",
        "weight_decay = 0.01\n[faults]\nrestarts = 9\n[flow]\ntext_dropout = 0.1\n",
        "weight_decay = 0.02\n",
    ):
        (folder / "named.toml").write_text(said + extra)
        with Manifest(folder / "small.duckdb") as manifest:
            run = prepare(manifest, "small", load_recipe(folder / "named.toml"), "named", folder / "named")
        names.append(run.folder.name)
    assert names[0] == names[1] != names[2]


def test_learning_rate_warms_up_and_ends_at_zero(tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE.format(steps=100))
    settings = load_recipe(tmp_path / "r.toml").train
    rates = [learning_rate(settings, step) for step in range(101)]
    assert rates[0] == pytest.approx(settings.lr / 2)
    assert max(rates) == settings.lr
    assert rates[100] == 0


def test_a_run_takes_the_encoder_of_its_own_selection(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=5)
    (tmp_path / "r.toml").write_text(RECIPE.format(steps=1))
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        clip = manifest.value("SELECT min(clip) FROM selections")
        manifest.insert("selections", [{"name": "other", "clip": clip, "weight": 1.0}])
        encode_latents(manifest, "other", EncodeSettings(channels=4), workers=1, progress=Quiet())
        run = prepare(manifest, "small", load_recipe(tmp_path / "r.toml"), "r", tmp_path / "runs")
    assert run.clips == 6
    assert json.loads((run.folder / "recipe.json").read_text())["model"]["latent_channels"] == 8
