"""A model that predicts data from its recipe to its samples, and that nothing takes it for one of velocities."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from at_work import ranks_do, train_all
from encoded import make_encoded
from in_process import goku
from test_resume import RECIPE, told

from goku_cli.manifest.store import Manifest
from goku_cli.media.sample_files import enlarged, write_shown
from goku_cli.model.objective.objective import Objective
from goku_cli.model.weights import checkpoint
from goku_cli.sample.generate import Generator, SampleSettings
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import LoggingConfig, Lora

DATA = Objective(predicts="data")
TRAIN = replace(RECIPE.train, steps=6, save_every=6, eval_every=6)
WATCH = LoggingConfig(preview_every=6, prompts=("a red circle",), preview_steps=2)
BEGUN = """
kind = "flow"
init_from = "{}"
[train]
steps = 1
tokens_per_step = 120
lr = 1e-3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("predicts")
    make_encoded(folder)
    return folder


@pytest.fixture(scope="module")
def runs(folder) -> dict[str, Path]:
    """Of velocities and of data; and two that begin with the latter and do not say what is predicted."""
    found: dict[str, Path] = {}
    for names in (
        {"velocity": {}, "data": {"objective": DATA, "watch": WATCH}},
        {"adapted": {"lora": Lora(rank=2)}, "image": {"model": {"image_condition": True}}},
    ):
        begin = str(found.get("data", ""))
        for name, changes in names.items():
            recipe = replace(RECIPE, train=TRAIN, init_from=begin, **changes)
            with Manifest(folder / "small.duckdb") as manifest:
                found[name] = prepare(manifest, "small", recipe, name, folder / "runs").folder
        ranks_do(1, train_all, [found[name] for name in names])
    return found


def config(run: Path) -> dict:
    return checkpoint.read_config(checkpoint.resolve(run))


@pytest.fixture(scope="module")
def before(runs, folder) -> Path:
    """A checkpoint of velocities as they were written before there was a choice."""
    old = shutil.copytree(checkpoint.resolve(runs["velocity"]), folder / "before")
    table = json.loads((old / "config.json").read_text())
    del table["objective"]["predicts"]
    (old / "config.json").write_text(json.dumps(table))
    (old / checkpoint.COMPLETE).unlink()
    checkpoint.seal(old)
    return old


def test_it_learns_and_says_so_in_its_checkpoint(runs):
    assert config(runs["data"])["objective"]["predicts"] == "data"
    figures = config(runs["data"])["figures"]
    assert figures["held_out_loss"] < 0.97 * figures["held_out_loss_untrained"]
    # At the start it predicts zero, and errs by x_1 / (1 - t).
    first, last = (told(runs["data"], f"held_out_loss_t{t}")[0] for t in (0.1, 0.9))
    assert last / first == pytest.approx((0.9 / 0.1) ** 2, rel=1e-4)


@pytest.mark.parametrize("name", ["adapted", "image"])
def test_what_begins_with_it_predicts_data_too_from_the_same_loss(runs, name):
    assert config(runs[name])["objective"] == config(runs["data"])["objective"]
    start, end = config(runs[name])["figures"]["held_out_loss_untrained"], config(runs["data"])["figures"]
    assert start == pytest.approx(end["held_out_loss"], rel=1e-4)
    assert told(runs[name], "loss")


def test_a_preview_is_what_sample_draws_of_it_and_a_cache_may_skip(runs, tmp_path):
    generator = Generator.load(runs["data"])
    requests = [generator.request("a red circle", 0)]
    (clip,) = generator.generate(requests, SampleSettings(steps=2, guidance=WATCH.preview_guidance))
    path = write_shown(tmp_path, "00", enlarged(clip.frames), generator.fps)
    assert (runs["data"] / "previews" / "step-000006" / "00.mp4").read_bytes() == path.read_bytes()
    settings = SampleSettings(steps=8, solver="heun")
    (exact,), (skipped,) = (list(generator.generate(requests, replace(settings, cache=c))) for c in (0.0, 0.2))
    assert generator.skipped > 0
    assert 0 < float((skipped.latent - exact.latent).norm() / exact.latent.norm()) < 0.2


@pytest.mark.parametrize(
    ("begin", "objective", "says"),
    [
        ("data", "[objective.shift]\nbase = 4.0", 'was trained with predicts = "data", the recipe has "velocity"; set'),
        ("velocity", '[objective]\npredicts = "data"', 'with predicts = "velocity", the recipe has "data"; set'),
        ("before", '[objective]\npredicts = "data"', 'set predicts = "velocity" in [objective], or leave [objective]'),
        ("data", '[objective]\nkind = "ddpm-v"\npredicts = "data"', 'is for kind = "flow", not "ddpm-v"; leave'),
        ("data", '[objective]\npredicts = "datum"', 'did you mean "data"?'),
    ],
)
@pytest.mark.parametrize(
    "words", [("train", "wrong.toml", "small.duckdb"), ("plan", "wrong.toml")], ids=["train", "plan"]
)
def test_weights_of_the_other_kind_are_no_beginning(runs, before, folder, begin, objective, says, words):
    path = {**runs, "before": before}[begin]
    (folder / "wrong.toml").write_text(BEGUN.format(path) + objective + "\n")
    done = goku(folder, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list((folder / "runs").glob("wrong-*"))


def test_a_checkpoint_from_before_there_was_a_choice_is_one_of_velocities(runs, before, folder):
    (folder / "again.toml").write_text(BEGUN.format(before) + "[objective.shift]\nbase = 4.0\n")
    assert goku(folder, "plan", "again.toml").returncode == 0
    latents = []
    for path in (before, runs["velocity"]):
        generator = Generator.load(path)
        (clip,) = generator.generate([generator.request("a red circle", 0, frames=1)], SampleSettings(steps=2))
        latents.append(clip.latent.tolist())
    assert latents[0] == latents[1]


def test_diffusers_cannot_run_it(runs, folder):
    done = goku(folder, "convert", str(runs["data"]), "-o", "out")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "predicts data" in done.stderr and "goku sample" in done.stderr
    assert not (folder / "out").exists()
