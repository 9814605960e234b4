"""`bench/gpu/`: it runs without a GPU at tiny size, keeps what it found, and ends what it began."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "bench" / "gpu"
ABSENT = {"not installed", "needs a GPU"}


def run(out, *words, timeout=280):
    command = [sys.executable, str(FOLDER / "run.py"), str(out), "--device", "cpu", "--smoke", *words]
    here = os.environ | {"TMPDIR": str(out)}  # what is left of it is seen by its folder
    told = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True, env=here)
    assert told.stdout.strip() == str(out / "results.md")
    return json.loads((out / "results.json").read_text())["checks"]


def module(name):
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", FOLDER / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_a_check_whose_time_is_over_ends_with_what_it_started(tmp_path):
    checks = run(tmp_path, "--only", "quality,sampling", "--seconds", "30")
    assert checks["quality"]["ended"], checks
    assert checks["sampling"] == {"seconds": 0.0, "ended": "not begun: the time is over", "rows": []}
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout == b""


def test_results_are_a_table_of_every_figure(tmp_path):
    checks = run(tmp_path, "--only", "encoders")
    cases = [row["case"] for row in checks["encoders"]["rows"] if "failed" not in row]
    assert len(cases) == 3, checks
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert "| case | encode_seconds | decode_seconds | peak_gib | captions_per_second |" in lines


def test_it_wants_a_gpu_or_to_be_told(tmp_path):
    for words, says in ((["--only", "speeed"], "no check speeed"), (["--device", "cuda"], "no GPU that PyTorch can")):
        command = [sys.executable, str(FOLDER / "run.py"), str(tmp_path), *words]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (told.returncode, told.stderr.startswith(says)) == (1, True), told.stderr


@pytest.mark.parametrize(
    ("wheel", "fits"),
    [
        ("deepspeed-0.19.8-py3-none-any.whl", True),
        ("duckdb-2.0.0-cp312-abi3-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", True),
        ("pydantic_core-2.50.4-cp312-cp312-manylinux2014_x86_64.whl", True),
        ("pydantic_core-2.50.4-cp311-cp311-manylinux2014_x86_64.whl", False),
        ("hjson-3.1.0-cp312-cp312-linux_aarch64.whl", False),
    ],
)
def test_only_wheels_for_that_machine_travel(wheel, fits):
    assert module("prepare").fits(wheel, "3.12") is fits


def test_wheels_are_those_that_the_tests_run_with():
    assert module("prepare").pinned(("pydantic-core", "duckdb"))[0].startswith("pydantic-core==")


@pytest.mark.long
def test_every_check_runs_at_tiny_size(tmp_path):
    checks = run(tmp_path, "--seconds", "3000", timeout=1700)
    assert {name: check["ended"] for name, check in checks.items()} == dict.fromkeys(
        ("correct", "speed", "quality", "train", "sampling", "encoders"), ""
    )
    rows = [row for check in checks.values() for row in check["rows"]]
    assert not [row for row in rows if row.get("failed", "not installed") not in ABSENT]
    assert not [row for row in rows if row.get("right") is False]
    assert len(rows) > 35
    assert (tmp_path / "samples.png").stat().st_size > 1_000
