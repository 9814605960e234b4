"""The whole line in one shell pipe, as the README has it, on a small synthetic collection."""

import json
import subprocess
from pathlib import Path

import pytest

from goku_cli.manifest.store import Manifest

CHAIN = """
set -o pipefail
goku ingest videos/ -m manifests/my.duckdb \
  | goku split | goku filter --tier 480p | goku caption | goku balance \
  | goku encode-latents | goku train recipes/shapes.toml | goku sample --prompts prompts.txt | goku eval
"""
RECIPE = """
kind = "flow"
size = "nano"
[train]
steps = 6
tokens_per_step = 120
lr = 1e-3
save_every = 6
eval_every = 3
log_every = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "shapes.toml").write_text(RECIPE)
    (folder / "prompts.txt").write_text("a red circle moving left slowly\na blue square, camera pans right\n")
    subprocess.run(["goku", "synth", "shapes", "videos", "--videos", "5", "--images", "30"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def printed(folder) -> str:
    done = subprocess.run(["bash", "-c", CHAIN], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_chain_prints_one_reference_and_leaves_every_kind_of_row(folder, printed):
    path, _, name = printed.strip().partition("#")
    assert printed.count("\n") == 1
    with Manifest(folder / path, read_only=True) as manifest:
        for table in ("sources", "clips", "scores", "captions", "tags", "selections", "latents", "samples", "results"):
            assert manifest.value(f"SELECT count(*) FROM {table}"), table
        assert manifest.value("SELECT count(*) FROM samples WHERE name = ?", [name]) == 2
        assert manifest.verify() == []


def test_again_changes_nothing_but_the_record_of_runs(folder, printed):
    def counts() -> dict[str, int]:
        with Manifest(folder / "manifests" / "my.duckdb", read_only=True) as manifest:
            tables = [row["table_name"] for row in manifest.query("SELECT table_name FROM duckdb_tables()")]
            return {table: manifest.value(f"SELECT count(*) FROM {table}") for table in tables if table != "runs"}

    before = counts()
    again = subprocess.run(["bash", "-c", CHAIN], cwd=folder, capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, printed)
    assert counts() == before


def test_shapes_bench_scores_every_stage_against_the_truth(folder, printed):
    words = ["goku", "eval", printed.strip(), "--bench", "shapes", "--json"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    assert stages["shapes.split.f1/all"] >= 0.9
    assert stages["shapes.filter.recall/all"] >= 0.8
    assert stages["shapes.caption.color/measured"] >= 0.9
    assert stages["shapes.balance.tv/after"] <= stages["shapes.balance.tv/before"]


def test_a_failed_stage_stops_the_pipe(folder):
    chain = "set -o pipefail; goku ingest nowhere -m manifests/x.duckdb | goku split | goku filter --tier 480p"
    done = subprocess.run(["bash", "-c", chain], cwd=folder, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "nowhere" in done.stderr
    assert done.stderr.count("the command before this one failed") == 2
