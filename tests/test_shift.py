"""The law of the shift, and the command that shows it."""

import json
import subprocess
from pathlib import Path

import pytest

from goku_cli.errors import UsageError
from goku_cli.model.objective.shift import ShiftLaw


def latent(size: str, frames: int) -> tuple[int, int, int, int]:
    height, width = (int(pixels) for pixels in size.split("x"))
    return (16, 1 + (frames - 1) // 4, height // 8, width // 8)


def goku(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["goku", "shift", *words], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("size", "frames", "shift"), [("1024x1024", 1, 3.0), ("480x832", 81, 3.96), ("720x1280", 129, 6.74)]
)
def test_the_default_law_gives_what_its_docstring_says(size, frames, shift):
    assert ShiftLaw().of(latent(size, frames)) == pytest.approx(shift, abs=0.005)


def test_space_and_time_have_exponents_of_their_own():
    law = ShiftLaw(base=2.0, tokens=64, spatial=0.5, temporal=1.0)
    assert law.of((4, 1, 16, 16)) == 2.0
    assert law.of((4, 1, 32, 32)) == 4.0  # SD3, eq. 23: the square root of four times the pixels
    assert law.of((4, 3, 16, 16)) == 6.0
    assert ShiftLaw().of((4, 1, 6, 10)) == 1.0  # 48x80 pixels: the law alone says 0.18
    assert ShiftLaw(least=0.1).of((4, 1, 6, 10)) == pytest.approx(0.18, abs=0.005)
    assert ShiftLaw(4.0, spatial=0.0, temporal=0.0).of((4, 25, 90, 160)) == 4.0


@pytest.mark.parametrize(
    "bad", [{"base": 0.0}, {"base": float("nan")}, {"tokens": 0}, {"least": 0.0}, {"temporal": float("inf")}]
)
def test_a_bad_law_is_refused(bad):
    with pytest.raises(UsageError, match=f"shift.{next(iter(bad))} must be"):
        ShiftLaw(**bad)


def test_the_command_shows_a_recipes_law():
    rows = json.loads(goku("recipes/shapes.toml", "--json").stdout)["sizes"]
    assert {row["shift"] for row in rows} == {4.0}
    assert {row["middle_sampling_time"] for row in rows} == {0.2}


def test_without_a_name_it_shows_the_default_law():
    assert f"{ShiftLaw().of(latent('480x864', 97)):.2f}" in goku().stdout


def test_the_command_names_what_it_cannot_show():
    recipes = Path(__file__).parents[1] / "recipes"
    known = goku("nonsense").stderr.partition("known: ")[2]
    assert known.startswith(", ".join(sorted(path.stem for path in recipes.glob("*.toml"))))
    done = goku("vae")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
