"""The experiments of recipes/experiments: what they measure with, and that their results lie beside them."""

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

FOLDER = Path(__file__).parents[1] / "recipes" / "experiments"
NAMES = ("objectives", "sizes", "joint", "cascade", "image-to-video")


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in [name for name, module in sys.modules.items() if str(FOLDER) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_runs_recipes_that_ship_and_has_results(name):
    module = importlib.import_module(name.replace("-", "_"))
    assert callable(module.run) and name in importlib.import_module("run").NAMES
    for recipe in re.findall(r'"([\w/-]+\.toml)"', Path(module.__file__).read_text()):
        assert (FOLDER / recipe).exists()
    found = json.loads((FOLDER / "results" / f"{name}.json").read_text())
    assert found["rows"] and found["machine"] and (FOLDER / "results" / f"{name}.svg").exists()
    assert f"results/{name}.svg" in (FOLDER / "README.md").read_text()


def test_a_digit_that_was_enlarged_is_that_digit_again():
    objectives = importlib.import_module("objectives")
    digit = load_digits().images[7]
    small = Image.fromarray(np.round(digit * 255 / 16).astype(np.uint8))
    large = small.resize((64, 64), Image.Resampling.NEAREST).convert("RGB")
    assert np.abs(objectives.shrunk(np.asarray(large)) - digit.ravel()).max() < 0.05


def test_coverage_is_the_share_within_the_reach_of_a_neighbor():
    objectives = importlib.import_module("objectives")
    line = np.arange(10.0)[:, None]
    assert objectives.coverage(line, line) == 1
    assert objectives.coverage(np.array([[4.5], [14.0]]), line) == 0.5
