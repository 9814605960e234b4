"""Help and documents say what is true."""

import importlib.util
import os
import re
import resource
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote

import pytest

from goku_cli.cli.app import app
from goku_cli.manifest.store import Manifest
from goku_cli.recipe import build, packaged, read_toml
from goku_cli.train.recipe import Recipe, load_recipe

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
COMMANDS = [command.name for command in app.registered_commands] + [
    f"{group.name} {command.name}"
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands
]
TRAINING = [path for path in sorted(packaged().glob("*.toml")) if "train" in read_toml(path)]
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "manifests" / "README.md", *sorted(DOCS.rglob("*.md"))
]  # fmt: skip
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
LONG = {"hardware.md", "train.md"}
"""Generated pages that take seconds: forecasts load torch."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("command", ["", "latents", "bench", *COMMANDS])
def test_help_is_quick_and_ends_with_an_example(command):
    words = ["goku", *command.split(), "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # A neighbor makes it wait, which says nothing of what it does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.6
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


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_every_training_recipe_loads_and_opens_with_its_command(path):
    load_recipe(path)
    assert "goku train" in path.read_text().partition("kind =")[0]


# The README


def test_every_command_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    names = {command.split()[0] for command in COMMANDS}
    assert not [name for name in names if f"| `goku {name}` |" not in text]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


# Links


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_relative_links_resolve(path):
    broken = []
    for link in LINK.findall(without_code(path.read_text())):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        file = (path.parent / unquote(target)) if target else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert not broken


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(path: Path) -> list[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", without_code(path.read_text()), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    offline = os.environ | {
        "NO_MKDOCS_2_WARNING": "1",
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=offline)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "index.html").read_text()
    assert not re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?://[^"]*"', page)


# Generated pages


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.name, marks=[pytest.mark.long] if path.name in LONG else [])
        for path in sorted(DOCS.rglob("*.md"))
        if "<!-- generated: " in path.read_text()
    ],
)
def test_generated_pages_are_fresh(generate, path):
    assert path.read_text() == generate.page(path), "run: python docs/generate.py"


def test_every_block_is_on_a_page(generate):
    found = re.findall(r"<!-- generated: ([a-z-]+) -->", "".join(path.read_text() for path in DOCS.rglob("*.md")))
    assert sorted(found) == sorted(generate.BLOCKS)


def test_every_column_of_the_manifest_is_described(generate):
    described, schema = generate.table_texts(), generate.schema()
    clips = set(schema["clips"])
    assert set(described) == set(schema)
    for name, columns in schema.items():
        own = set(columns) - {"run"} - (clips if name == "clip_files" else set())
        assert set(described[name]) - {"row"} == own, name


def test_every_key_of_a_recipe_is_described(generate):
    empty = re.compile(r"^\| `(\w+)` \|.*\|  \|$", re.MULTILINE)
    assert not empty.findall(generate.training_recipe() + generate.curation_recipes())


# Blocks that run


def test_queries_of_all_pages_run(tmp_path):
    with Manifest(tmp_path / "m.duckdb", create=True) as manifest:
        for path in PAGES:
            for query in re.findall(r"```sql\n(.*?)```", path.read_text(), re.DOTALL):
                manifest.query(query)


def test_recipes_of_all_pages_load():
    """Blocks may leave out what a recipe must have."""
    for path in PAGES:
        for block in re.findall(r"```toml\n(.*?)```", path.read_text(), re.DOTALL):
            table = {"kind": "flow", "size": "nano"} | tomllib.loads(block)
            table["train"] = {"steps": 1, "tokens_per_step": 100, "lr": 1e-3} | table.get("train", {})
            build(Recipe, table, where=path.name)


@pytest.mark.long
def test_the_first_ten_minutes_run_in_an_empty_folder(tmp_path):
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / "start" / "first-ten-minutes.md").read_text(), re.DOTALL)
    assert len(blocks) >= 6
    script = "set -euo pipefail\n" + "\n".join(blocks)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Manifest(tmp_path / "first.duckdb", read_only=True) as manifest:
        for table in ("clips", "captions", "latents", "samples", "results"):
            assert manifest.value(f"SELECT count(*) FROM {table}"), table
        assert manifest.value("SELECT count(*) FROM samples") == 2
    assert (tmp_path / "first.html").is_file()


def test_options_in_shell_blocks_exist(generate):
    """Every `goku COMMAND --option` of the documentation is one of the program."""
    import typer

    group = typer.main.get_command(app)
    known = dict(options_of(group))
    wrong = []
    for path in PAGES:
        for block in re.findall(r"```\w*\n(.*?)```", path.read_text(), re.DOTALL):
            for first, second, words in re.findall(
                r"\bgoku ([a-z][a-z-]*)(?: (export|import|merge|verify|run|published))?\b([^|;)\n]*)",
                block.replace("\\\n", " "),
            ):
                name = f"{first} {second}".strip()
                used = re.findall(r"(?<=\s)-{1,2}[a-zA-Z][\w-]*", words.partition(" #")[0])
                wrong += [f"{path.name}: goku {name} {opt}" for opt in used if opt not in known.get(name, set())]
    assert not wrong


def options_of(group):
    """Yield every command's name with its options, but for those that are hidden."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from ((f"{name} {second}", options) for second, options in options_of(command))
        else:
            shown = [param for param in command.params if not getattr(param, "hidden", False)]
            yield name, {option for param in shown for option in param.opts + param.secondary_opts} | {"--help"}
