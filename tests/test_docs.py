"""Help and documents say what is true."""

import os
import re
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from goku_cli.cli.app import app
from goku_cli.manifest.store import Manifest
from goku_cli.recipe import packaged, read_toml
from goku_cli.train.recipe import load_recipe

ROOT = Path(__file__).parent.parent
COMMANDS = [command.name for command in app.registered_commands] + [
    f"{group.name} {command.name}"
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands
]
TRAINING = [path for path in sorted(packaged().glob("*.toml")) if "train" in read_toml(path)]


@pytest.mark.parametrize("command", ["", "latents", "bench", *COMMANDS])
def test_help_is_quick_and_ends_with_an_example(command):
    words = ["goku", *command.split(), "--help"]
    took = []
    for _ in range(3):
        started = time.process_time(), time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        took.append(time.monotonic() - started[1])
    assert min(took) < 0.5
    last = re.sub(r"\s+", " ", done.stdout.strip().rpartition("Example:")[2]).strip()
    assert last.startswith("goku "), done.stdout


def test_the_nine_commands_exist():
    assert {"ingest", "split", "filter", "caption", "balance", "encode-latents", "train", "sample", "eval"} <= set(
        COMMANDS
    )
    assert {"show", "doctor", "synth", "plan", "losses", "latents export", "bench run"} <= set(COMMANDS)


def test_the_list_of_commands_is_whole_at_80_columns():
    done = subprocess.run(
        ["goku", "-h"], capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "80"}
    )
    assert "..." not in done.stdout.partition("Commands:")[2].partition("Example:")[0]


def test_version():
    done = subprocess.run(["goku", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"goku {version('goku-cli')}\n"


def test_manifest_queries_run_and_tables_are_documented(tmp_path):
    text = (ROOT / "manifests" / "README.md").read_text()
    with Manifest(tmp_path / "m.duckdb", create=True) as manifest:
        for query in re.findall(r"```sql\n(.*?)```", text, re.DOTALL):
            manifest.query(query)
        tables = {row["table_name"] for row in manifest.query("SELECT table_name FROM duckdb_tables()")}
    assert not [name for name in tables - {"schema_version"} if f"| `{name}` |" not in text]


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_every_training_recipe_loads_and_opens_with_its_command(path):
    load_recipe(path)
    assert "goku train" in path.read_text().partition("kind =")[0]


def test_every_command_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert not [command for command in COMMANDS if f"goku {command}" not in text]
