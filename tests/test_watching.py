"""Training can be watched: boards, previews, curves, losses of single clips; and it learns the same."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from at_work import ranks_do, train_all
from encoded import make_encoded

from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.media.sample_files import enlarged, write_shown
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import Goku
from goku_cli.recipe import build
from goku_cli.report.page import write_training
from goku_cli.report.training import previews, read_training
from goku_cli.sample.generate import Generator, SampleSettings
from goku_cli.train.distributed.topology import Ranks
from goku_cli.train.launch.monitor import _show_stack
from goku_cli.train.logs.loggers import TensorBoard, Wandb, check_boards
from goku_cli.train.logs.run_log import RunLog
from goku_cli.train.logs.sample_losses import take_in
from goku_cli.train.prepare import prepare
from goku_cli.train.previews import Previews
from goku_cli.train.recipe import Flow, LoggingConfig, Parallel, Recipe, TrainConfig

PROMPTS = ("a red circle moving left slowly", "a <b>blue</b> square")
TRAIN = TrainConfig(
    steps=4, tokens_per_step=120, lr=3e-3, warmup=2, save_every=2, log_every=1, eval_every=2, ema=(0.5,)
)
WATCH = LoggingConfig(tensorboard=True, preview_every=2, prompts=PROMPTS, preview_steps=2)
RECIPE = Recipe("flow", TRAIN, size="nano", watch=WATCH)
IMAGES = replace(RECIPE, flow=Flow(image_share=1.0), parallel=Parallel(zero_stage=3))
RECIPES = {
    "plain": replace(RECIPE, watch=LoggingConfig()), "watched": RECIPE, "images": IMAGES,
    "half": replace(RECIPE, train=replace(TRAIN, bf16=True)),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One run of each recipe, on two ranks."""
    folder = tmp_path_factory.mktemp("watching")
    with Manifest(make_encoded(folder, videos=3, images=9)) as manifest:
        for name, recipe in RECIPES.items():
            run = prepare(manifest, "small", recipe, name, folder / "prepared").folder
            run.rename(folder / name)
    ranks_do(2, train_all, [folder / name for name in RECIPES])
    return folder


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_a_sign_of_life_is_the_last_one_and_nothing_of_those_before(tmp_path):
    journal = RunLog(tmp_path, 1)
    journal.beat(123_456, "evaluation")
    journal.beat(7, "step")
    assert (tmp_path / "beat-00001").read_text().split() == [str(os.getpid()), "7", "step"]


@pytest.mark.parametrize(("name", "shown"), [("goku_cli", True), ("another", False)])
def test_a_rank_that_hangs_is_asked_where_and_nobody_else_is(name, shown):
    """A number that was a rank's can be another program's by then, and this signal would end that."""
    shows = "import faulthandler, signal; faulthandler.register(signal.SIGUSR1); " if shown else ""
    words, pipe = [sys.executable, "-c", f"{shows}print({name!r}, flush=True); input()"], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        process.stdout.readline()
        _show_stack(str(process.pid))
        _, said = process.communicate("\n")
    assert process.returncode == 0
    assert ("most recent call first" in said) is shown


def test_watching_changes_nothing_of_what_is_learned(folder):
    assert losses(folder / "watched") == losses(folder / "plain")
    weights = [(folder / name / "step-000004" / "model.safetensors").read_bytes() for name in ("watched", "plain")]
    assert weights[0] == weights[1]


def test_tensorboard_reads_the_same_figures(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    events = accumulator(str(folder / "watched" / "tensorboard"))
    events.Reload()
    assert {event.step: event.value for event in events.Scalars("loss")} == pytest.approx(losses(folder / "watched"))


@pytest.mark.parametrize(("name", "frames"), [("watched", 9), ("images", 1), ("half", 9)])
def test_a_preview_is_what_sample_draws_of_that_checkpoint(folder, tmp_path, name, frames):
    """Also when the weights are parted between the ranks, and in the precision of training."""
    generator = Generator.load(folder / name)
    requests = [generator.request(prompt, seed, frames=frames) for seed, prompt in enumerate(PROMPTS)]
    for i, clip in enumerate(generator.generate(requests, SampleSettings(steps=2, guidance=3.0))):
        path = write_shown(tmp_path, f"{i:02d}", enlarged(clip.frames), generator.fps)
        assert (folder / name / "previews" / "step-000004" / path.name).read_bytes() == path.read_bytes()
    assert {path.name for path in (folder / name / "previews").iterdir()} == {"step-000002", "step-000004"}
    assert not (folder / name / "events-00000.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "prompts", "says"),
    [
        ({"codec": "nowhere"}, PROMPTS, "no preview of step 2: nowhere holds no VAE"),
        ({"text": "nowhere"}, PROMPTS, "no previews: unknown text encoder"),
        ({}, ("a very " * 60,), "the text encoder reads 256"),
    ],
)
def test_a_preview_that_fails_is_an_event(folder, tmp_path, change, prompts, says):
    plan = json.loads((folder / "watched" / "recipe.json").read_text())
    recipe = replace(RECIPE, watch=replace(WATCH, prompts=prompts))
    plan["data"] |= change
    made = Previews(tmp_path, plan, recipe, Ranks(), RunLog(tmp_path, 0), torch.device("cpu"))
    if made.due(2):
        made.draw(2, Goku(build(ModelConfig, plan["model"], where="plan")))
    assert says in json.loads((tmp_path / "events-00000.jsonl").read_text())["event"]
    assert not list(tmp_path.glob("previews/*/*"))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"preview_every": 5}, "both preview_every and prompts"),
        ({"prompts": PROMPTS}, "both preview_every and prompts"),
        ({"preview_every": -1}, "must be 0"),
        ({"preview_every": 5, "prompts": PROMPTS, "preview_steps": 0}, "preview_steps at least 1"),
    ],
)
def test_watch_tables_that_cannot_be_are_refused(table, says):
    with pytest.raises(UsageError, match=says):
        LoggingConfig(**table)


def test_a_vae_has_no_prompts():
    with pytest.raises(UsageError, match="a VAE draws nothing"):
        Recipe("vae", TRAIN, watch=WATCH)


def test_a_missing_package_is_told_before_anything_starts(monkeypatch):
    for name, watch in (("tensorboard", WATCH), ("wandb", LoggingConfig(wandb="goku"))):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
        with pytest.raises(UsageError, match=f"pip install {name}"):
            check_boards(watch)
    check_boards(LoggingConfig())


def test_wandb_gets_the_figures(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    board = Wandb(tmp_path / "shapes-1a2b3c4d", "goku")
    (tmp_path / "shapes-1a2b3c4d").mkdir()
    for step in (4, 5, 3):  # a run that began again from a checkpoint
        board.write(step, {"loss": float(step)})
    assert dict(board._run.summary)["loss"] == 3.0
    board._run.finish()
    assert list(tmp_path.glob("shapes-1a2b3c4d/wandb/offline-run-*-shapes-1a2b3c4d/*.wandb"))


def test_a_board_that_fails_is_given_up(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("a file in the way")
    journal = RunLog(tmp_path, 0, [TensorBoard(tmp_path / "tensorboard")])
    for step in (1, 2):
        journal.metrics(step, {"loss": 1.0})
    (event,) = (tmp_path / "events-00000.jsonl").read_text().splitlines()
    assert "TensorBoard gets no more figures" in event
    assert len(losses(tmp_path)) == 2


def test_tensorboard_hides_what_was_made_again(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    board = TensorBoard(tmp_path)
    for step, value in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 5.0)):
        board.write(step, {"loss": value})
    events = accumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 5.0)]


@pytest.fixture
def told(folder, tmp_path) -> Path:
    """A run that went back, and whose log was torn."""
    run = tmp_path / "shapes-1a2b3c4d"
    shutil.copytree(folder / "watched", run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 9.0, "at": 1.0}\n{"step": 4, "lo\n{"step": 4, "loss": 0.25}\n{"step": 5, "l')
    for rank in (0, 1):
        journal = RunLog(run, rank)
        journal.event(3, "step 3 was left out: <b>its loss</b>")
    journal.event(5, "went back from step 5 to 3")
    return run


def test_a_run_is_read_as_far_as_it_came(told):
    run = read_training(told / "step-000004")
    assert (run.step, run.steps) == (4, 4)
    newest = {figure.name: figure for figure in run.figures}
    assert newest["loss"].value == 0.25 and len(newest["loss"].course) == 5
    assert {"held_out_loss_images", "norm_clipped", "tokens_per_second", "data_wait", "balance"} <= newest.keys()
    assert [event.text[:9] for event in run.events] == ["step 3 wa", "went back"]
    assert {line.label for plot in run.plots for line in plot.lines} == newest.keys()
    assert [mark.label[:9] for mark in run.plots[0].marks] == ["step 3 wa", "went back"]


def test_the_page_of_a_run(told, tmp_path):
    write_training(read_training(told), tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    for heading in ("Curves", "Previews", "Events", "Recipe"):
        assert f"<h2>{heading}</h2>" in page
    assert "<b>blue</b>" not in page and "&lt;b&gt;blue" in page and "<b>its" not in page
    assert page.count('src="data:image/webp') == 4 and page.count("<source media") == 4  # they play
    assert [len(preview.drawn) for preview in previews(told)] == [2, 2]
    chromium = shutil.which("chromium")
    if chromium is not None:
        shot = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={tmp_path}/r.png"]
        subprocess.run([*shot, f"file://{tmp_path}/r.html"], check=True, capture_output=True, timeout=60)
        assert (tmp_path / "r.png").stat().st_size > 10_000


def test_a_run_of_a_vae_is_shown_too(tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": {"kind": "vae", "train": {"steps": 9}}}))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "mse": 0.5, "kl": 1e9}\n{"step": 2, "mse": 0.4, "kl": NaN}\n')
    run = read_training(tmp_path)
    assert [plot.title for plot in run.plots] == ["kl", "mse"]


def test_what_is_no_run_is_told(told, tmp_path):
    with pytest.raises(UsageError, match="neither a manifest nor a run's folder"):
        read_training(tmp_path)
    (told / "metrics.jsonl").write_text('{"step": 1, "lo')
    with pytest.raises(GokuError, match="has no figures yet; what its ranks said is in .*launch.log"):
        read_training(told)
    (told / "recipe.json").write_text("{")
    with pytest.raises(GokuError, match="recipe.json is damaged"):
        read_training(told)


def test_show_prints_a_run_and_its_manifests_abnormal_clips(folder, told):
    def show(*words: str) -> str:
        return subprocess.run(["goku", "show", *words], capture_output=True, text=True, check=True).stdout

    assert "step 4 of 4" in " ".join(show(str(told)).split()) and "held_out_loss_t0.1" in show(str(told))
    assert json.loads(show(str(told), "--json"))["figures"]["loss"] == {"value": 0.25, "step": 4}
    with Manifest(folder / "small.duckdb") as manifest:
        manifest.begin_run("train", {})
        take_in(manifest, folder / "watched")
        take_in(manifest, folder / "watched")  # again: instead of the others, not beside them
        seen = manifest.value("SELECT count(*) FROM losses")
    rows = json.loads(show(str(folder / "small.duckdb"), "--losses", "100", "--json"))
    assert 0 < sum(row["samples"] for row in rows) <= seen
    assert all(row["caption"] and Path(row["source_path"]).exists() for row in rows)
    refused = subprocess.run(["goku", "show", str(told), "--failures"], capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")


def test_the_clip_of_abnormal_loss_is_found(tmp_path):
    """Loss falls with the step and depends on time and kind; one clip is worse than its like, though not the worst."""
    rng = np.random.default_rng(0)
    rows = []
    for step in range(2000):
        clip, t = int(rng.integers(40)), rng.random()
        expected = 2 * np.exp(-step / 300) + (1 - t) + (0.5 if clip < 20 else 0)
        loss = expected + 0.05 * rng.standard_normal() + (0.06 if clip == 30 else 0)
        rows.append(
            {"training": "run", "step": step, "clip": str(clip), "t": t, "frames": 1 + (clip < 20), "loss": loss}
        )
    with Manifest(tmp_path / "m.duckdb", create=True) as manifest:
        manifest.begin_run("train", {})
        manifest.insert("losses", rows)
        found = manifest.query("SELECT * FROM clip_losses ORDER BY at_least DESC")
    assert found[0]["clip"] == "30" and found[0]["at_least"] > 0.1
    cells: dict[tuple, list] = {}
    for row in rows:
        cells.setdefault((10 * row["step"] // 2000, int(row["t"] * 10), row["frames"]), []).append(row)
    z = [
        (row["loss"] - np.mean([r["loss"] for r in cell])) / np.std([r["loss"] for r in cell], ddof=1)
        for cell in cells.values() if len(cell) > 1 for row in cell if row["clip"] == "30"
    ]  # fmt: skip
    assert (found[0]["samples"], found[0]["deviation"]) == (len(z), pytest.approx(np.mean(z)))
    assert found[0]["at_least"] == pytest.approx(np.mean(z) - 2 / len(z) ** 0.5)
    assert sum(row["at_least"] > 0 for row in found) <= 5
