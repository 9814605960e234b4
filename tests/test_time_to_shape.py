"""The leaderboard of levers: every row is a recipe that loads, and rows become a table."""

import sys
import tomllib
from pathlib import Path

import pytest
import tomlkit

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))

from time_to_shape import DEMO, merge, read_options, table  # noqa: E402

from goku_cli.recipe import changes  # noqa: E402
from goku_cli.train.recipe import load_recipe  # noqa: E402

LEVERS = tomllib.loads((BENCH / "time_to_shape.toml").read_text())


@pytest.mark.parametrize("name", LEVERS)
def test_every_lever_changes_a_recipe_that_loads(name, tmp_path):
    recipe = tomlkit.parse(DEMO.read_text())
    for key, value in LEVERS[name].items():
        if key != "encode":
            merge(recipe, key, value)
    path = tmp_path / "lever.toml"
    path.write_text(tomlkit.dumps(recipe))
    changed = changes(load_recipe(path)) != changes(load_recipe(DEMO))
    assert changed == bool(LEVERS[name].keys() - {"encode"})


def test_levers_may_follow_options():
    options = read_options(["demo.duckdb", "--seconds", "60", "--seeds", "0,1", "base", "shift-2"])
    assert (options.levers, options.seconds, options.seeds) == (["base", "shift-2"], 60, "0,1")


def test_the_table_has_a_row_for_each_lever_the_best_shape_first():
    scores = {f"{name}/{tag}": 0.5 for name in ("color", "shape", "motion", "strict") for tag in ("seen", "unseen")}
    costs = {"cpu_seconds": 60.0, "steps": 1000, "samples": 2000}
    rows = [{"lever": lever, **costs, **scores, "shape/seen": x} for lever, x in (("a", 0.1), ("b", 0.2), ("b", 0.4))]
    first, second = table(rows).splitlines()[2:]
    assert first == "| b | 2 | 60 | 1,000 | 2,000 | 0.50 | 0.30 | 0.50 | 0.50 | 0.50 | 0.50 |"
    assert second.startswith("| a | 1 |") and "| 0.10 |" in second
