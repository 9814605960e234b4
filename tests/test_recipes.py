"""Every training recipe that ships: it builds, its header is true, and the ladders lead from stage to stage."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from at_work import as_parted, ranks_do
from encoded import make_encoded

from goku_cli.encode.encode import encode_latents
from goku_cli.encode.settings import EncodeSettings
from goku_cli.manifest.store import Manifest
from goku_cli.model.network.transformer import Goku
from goku_cli.model.weights import checkpoint
from goku_cli.recipe import find, packaged, read_toml
from goku_cli.stage import Quiet
from goku_cli.train import trainer
from goku_cli.train.forecast.accuracy import compared
from goku_cli.train.forecast.forecast import Machine
from goku_cli.train.forecast.suggestions import check_fits
from goku_cli.train.forecast.workload import plan_of_sizes
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import load_recipe, sized_model

FOLDER = packaged()
TRAINING = [path for path in sorted(FOLDER.rglob("*.toml")) if "train" in read_toml(path)]
LARGE = [path for path in TRAINING if path.parent.name.startswith("goku-") or "lora" in path.name]
TOY = sorted((FOLDER / "shapes").glob("*.toml"))


def name(path: Path) -> str:
    return str(path.relative_to(FOLDER))


@pytest.mark.parametrize("path", TRAINING, ids=name)
def test_every_recipe_builds_its_model_and_names_its_command(path):
    recipe = load_recipe(path)
    assert f"goku train recipes/{name(path)}" in path.read_text().partition("kind =")[0]
    if recipe.kind == "flow":
        with torch.device("meta"):
            model = Goku(sized_model(recipe, latent_channels=16, text_dim=2048))
        assert hasattr(model, "condition_in") == ("image-to-video" in path.stem)
    if recipe.init_from.startswith("runs/"):  # a recipe of the same folder that comes before this one
        earlier = path.with_name(f"{Path(recipe.init_from).name}.toml")
        assert earlier.exists() and earlier < path
        assert f"--runs {Path(recipe.init_from).parent}" in path.read_text()
        assert f"--runs {Path(recipe.init_from).parent}" in earlier.read_text()


@pytest.mark.parametrize("path", LARGE, ids=name)
def test_the_plan_in_the_header_is_what_comes_out(path):
    text = path.read_text()
    command = shlex.split(re.search(r"^# +(goku plan .*)$", text, re.MULTILINE)[1])
    told = dict(zip(command[3::2], command[4::2], strict=True))
    machine = Machine(told["--gpu"], int(told["--gpus"]))
    plan = plan_of_sizes(load_recipe(path), machine, told["--size"], int(told["--frames"]))
    found = plan.forecast()
    check_fits(plan, found)
    figures = found.figures()
    used, room = figures["memory_bytes"] / 2**30, figures["memory_room_bytes"] / 2**30
    assert f"#   {used:.0f} of {room:.0f} GiB a GPU, {figures['step_seconds']:.3g} s a step at an MFU of 35%, " in text
    assert f"{figures['days']:.3g} days\n" in text


def climb(_rank: int, folder: Path) -> None:
    """Train the toy ladder's recipes at a smaller size, two steps each."""
    os.chdir(folder)
    for path, name in zip(TOY, ("small", "small", "large", "large"), strict=True):
        text = re.sub(r"(?m)^(steps|save_every|eval_every) = .*", r"\1 = 2", path.read_text())
        text = re.sub(r"(?m)^tokens_per_step = .*", "tokens_per_step = 240", text).replace('"tiny"', '"nano"')
        Path(path.name).write_text(text)
        with Manifest(Path(f"ladder/{name}.duckdb")) as manifest:
            run = prepare(manifest, "small", load_recipe(Path(path.name)), path.stem, Path("ladder/runs"))
        if path == TOY[-1]:
            trainer.gpu_here = lambda: "rtx-4090"  # as if it were one that is known
        assert trainer.Trainer(run.folder).train()


def test_the_toy_ladder_from_end_to_end(tmp_path):
    """Every stage finds the one before it by its recipe's name."""
    made = make_encoded(tmp_path / "ladder", videos=3, images=9)
    shutil.copy(made, made.with_name("large.duckdb"))
    with Manifest(made.with_name("large.duckdb")) as large:
        large.begin_run("test", {})
        codec = next(made.parent.glob("small.latents/linear-*"))
        encode_latents(large, "small", EncodeSettings(vae=str(codec), size="96x160"), workers=1, progress=Quiet())
    ranks_do(1, climb, tmp_path)
    runs = sorted((tmp_path / "ladder/runs").iterdir())
    assert [run.name[:-9] for run in runs] == [path.stem for path in TOY]
    config = checkpoint.read_config(checkpoint.resolve(tmp_path / "ladder/runs/4-image-to-video"))
    assert config["model"]["image_condition"] and config["model"]["rope_scale"] == [1.0, 0.5, 0.5]
    assert config["data"]["size"] == "96x160"
    assert config["objective"]["shift"]["base"] == 4.0  # stage 1 said it, and the others began with stage 1
    foretold = [json.loads((run / "forecast.json").read_text()) for run in runs]
    assert ["memory_bytes" in one for one in foretold] == [False, False, False, True]  # of a CPU nothing is foretold
    assert "were predicted at an MFU of 35%" in compared(runs[-1])
    logged = [json.loads(line) for line in (runs[-1] / "metrics.jsonl").read_text().splitlines()]
    line = next(line for line in logged if "mfu" in line)
    assert line["mfu"] == line["flops_per_second"] / 165.2e12


STAGES = [path for path in LARGE if path.parent.name.startswith("goku-")]
LINES = {
    "size": 'size = "nano"', "steps": "steps = 3", "save_every": "save_every = 1\nkeep = 9",
    "eval_every": "eval_every = 3", "tokens_per_step": "tokens_per_step = 120", "max_tokens": "max_tokens = 45",
    "warmup": "warmup = 1",
    "sequence": "sequence = 2", "shard_group": "shard_group = 2",
}  # fmt: skip
"""What a stage of the 2B and 8B models becomes on two ranks with a model of 48 numbers; all else stays as it says."""


def take_stages(rank: int, folder: Path) -> None:
    """Train every stage from the one before it, take its last step away, and go on with it."""
    os.chdir(folder)
    as_parted()
    for path in STAGES:
        runs = Path("runs") / path.parent.name
        if rank == 0:
            text = path.read_text()
            for key, line in LINES.items():
                text = re.sub(rf"(?m)^{key} = .*", line, text)
            Path(path.name).write_text(text)
            with Manifest(Path("small.duckdb")) as manifest:
                prepare(manifest, "small", load_recipe(Path(path.name)), path.stem, runs)
        torch.distributed.barrier()
        (run,) = runs.glob(f"{path.stem}-*")
        assert trainer.Trainer(run).train()
        torch.distributed.barrier()
        if rank == 0:
            (run / "step-000003").rename(run / "whole")
        torch.distributed.barrier()
        assert trainer.Trainer(run).train()
        torch.distributed.barrier()


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    make_encoded(folder, videos=3, images=9)
    ranks_do(2, take_stages, folder)
    return folder / "runs"


@pytest.mark.parametrize("path", STAGES, ids=name)
def test_every_stage_takes_its_steps_and_resumes_bit_for_bit(stages, path):
    (run,) = (stages / path.parent.name).glob(f"{path.stem}-*")
    said = json.loads((run / "recipe.json").read_text())["recipe"]
    for table in ("train", "parallel", "flow"):
        for key, value in read_toml(path).get(table, {}).items():
            told = said[table][key]
            assert key in LINES or told == value or told["policy"] == value["policy"]
    for file in ("model.safetensors", "ema.safetensors"):
        assert (run / "step-000003" / file).read_bytes() == (run / "whole" / file).read_bytes()


@pytest.mark.parametrize("name", ["goku-2b/5-images", "goku-2b/5-images.toml", "recipes/goku-2b/5-images.toml"])
def test_a_recipe_that_ships_is_found_by_its_name_everywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert find(".", name) == packaged("goku-2b", "5-images.toml")
    assert find(".", "mine/5-images.toml") == Path("mine/5-images.toml")
    own = tmp_path / name
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert find(".", name) == Path(name)
