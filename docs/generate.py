"""Write the generated parts of the documentation: `python docs/generate.py`.

A page holds a pair of comments, <!-- generated: NAME --> and <!-- end -->; what stands between them is replaced by what
the function of that name in BLOCKS returns. The sources are the program itself (help texts, dataclasses, schema,
forecasts) and docs/tables.toml; the text around a pair is written by hand.
"""

import ast
import dataclasses
import inspect
import itertools
import os
import re
import subprocess
import sys
import textwrap
import tomllib
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

DOCS = Path(__file__).parent
BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SMALLER = (("h100", 8), ("a100-80gb", 8), ("rtx-4090", 8))
"""Few GPUs, for which the recipes at 2B and 8B are planned as well."""


def page(path: Path) -> str:
    """Return the text that a page should have."""
    return BLOCK.sub(
        lambda found: f"{found[1]}\n{BLOCKS[found[2]]().strip()}\n\n{found[3]}", path.read_text(encoding="utf-8")
    )


# Commands


def commands() -> str:
    """Return a section for each command, by the help texts of the program."""
    import typer

    from goku_cli.cli.app import app

    group: Any = typer.main.get_command(app)
    root = group.make_context("goku", [], resilient_parsing=True)
    panels: dict[str, list[str]] = {}
    for name, command in group.commands.items():
        section = panels.setdefault(command.rich_help_panel, [])
        within = getattr(command, "commands", {})
        section += [_command(f"{name} {inner}", found, root) for inner, found in within.items()]
        section += [] if within else [_command(name, command, root)]
    return "\n\n".join(f"## {panel}\n\n" + "\n\n".join(sections) for panel, sections in panels.items())


def _command(name: str, command: Any, root: Any) -> str:
    context = type(root)(command, info_name=name, parent=root)
    example = command.epilog.partition("Example:")[2].strip()
    parts = [
        f"### goku {name}",
        _escaped(inspect.cleandoc(command.help)),
        f"```text\ngoku {name} {' '.join(command.collect_usage_pieces(context))}\n```",
        *(
            _table([title, "meaning"], [[_code(left), _escaped(right)] for left, right in rows])
            for title, kind in (("argument", "argument"), ("option", "option"))
            if (
                rows := [
                    record
                    for p in command.params
                    if p.param_type_name == kind and (record := p.get_help_record(context))
                ]
            )
        ),
        f"Example:\n\n```text\n{example}\n```",
    ]
    return "\n\n".join(parts)


# Recipe keys


def training_recipe() -> str:
    """Return a table of keys for each table of a training recipe."""
    from goku_cli.model.network.presets import ModelConfig
    from goku_cli.train.recipe import Recipe

    return "\n\n".join(_tables(Recipe, "", {"model": ModelConfig}))


def model_sizes() -> str:
    """Return the table of model sizes."""
    from goku_cli.model.network.presets import SIZES

    names = [field.name for field in dataclasses.fields(next(iter(SIZES.values())))]
    rows = [[f"`{size}`", *(_shown(getattr(row, name)) for name in names)] for size, row in SIZES.items()]
    return _table(["size", *(f"`{name}`" for name in names)], rows)


def curation_recipes() -> str:
    """Return the keys of ingest rules, tiers and taxonomies."""
    from goku_cli.balance.taxonomy import Primary, Taxonomy
    from goku_cli.filter.tier import Limits, Range, TierRecipe
    from goku_cli.ingest.rules import Rules

    kinds = {
        "Ingest rules (`recipes/ingest/`)": [*_tables(Rules, "", {}, level=4)],
        "Tiers (`recipes/tiers/`)": [
            *_keys(Limits, "`[video]` and `[image]`", 4), *_keys(Range, "A range: `{ min = ..., max = ... }`", 4),
            *_tables(TierRecipe, "", {}, skip=("video", "image"), level=4),
        ],
        "Taxonomies (`recipes/taxonomy/`)": [*_tables(Taxonomy, "", {}, level=4), *_keys(Primary, "[primary.NAME]", 4)],
    }  # fmt: skip
    return "\n\n".join("\n\n".join([f"### {title}", *sections]) for title, sections in kinds.items())


def _tables(
    cls: type, name: str, named: dict[str, type], *, skip: tuple[str, ...] = (), level: int = 3
) -> Iterator[str]:
    """Yield the section of a dataclass, then those of the dataclasses in it."""
    inner = {}
    for field in dataclasses.fields(cls):
        found = named.get(field.name) or _dataclass(typing.get_type_hints(cls)[field.name])
        if found and field.name not in skip:
            inner[field.name] = found
    yield from _keys(cls, f"[{name}]" if name else "The top level", level, without=(*inner, *skip))
    for key, found in inner.items():
        yield from _tables(found, f"{name}.{key}" if name else key, {}, level=level)


def _keys(cls: type, title: str, level: int, without: tuple[str, ...] = ()) -> Iterator[str]:
    texts, hints = field_texts(cls), typing.get_type_hints(cls)
    rows = [
        [f"`{field.name}`", _kind(hints[field.name]), _default(field), _escaped(texts.get(field.name, ""))]
        for field in dataclasses.fields(cls)
        if field.name not in without
    ]
    if rows:
        heading = f"{'#' * level} {f'`{title}`' if re.fullmatch(r'.[a-z.A-Z]+.', title) else title}"
        about = " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())
        yield "\n\n".join([heading, _escaped(about), _table(["key", "type", "default", "meaning"], rows)])


def field_texts(cls: type) -> dict[str, str]:
    """Return the string below each field of a dataclass, by the field's name."""
    body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]).body
    found = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def _dataclass(hint: Any) -> type | None:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)  # type: ignore[return-value]


def _kind(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(_kind(option) for option in typing.get_args(hint) if option is not types.NoneType)
    if typing.get_origin(hint) in (tuple, list):
        inner = [option for option in typing.get_args(hint) if option is not Ellipsis]
        size = "" if Ellipsis in typing.get_args(hint) or len(inner) == 1 else f" of {len(inner)}"
        return f"list{size}, {_kind(inner[0])}"
    if typing.get_origin(hint) is dict or dataclasses.is_dataclass(hint):
        return "table"
    return {int: "integer", float: "number", str: "text", bool: "boolean"}.get(hint, "any")


def _default(field: Any) -> str:
    if field.default is not dataclasses.MISSING:
        return _shown(field.default)
    return "required" if field.default_factory is dataclasses.MISSING else _shown(field.default_factory())


def _shown(value: Any) -> str:
    """Return a value as TOML has it."""
    if value is None or value == {} or dataclasses.is_dataclass(value):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{list(value) if isinstance(value, tuple) else value}`".replace("'", '"')


# The manifest


def manifest_tables() -> str:
    """Return a table of columns for every table and view of the schema, with the descriptions of tables.toml."""
    described = table_texts()
    sections = []
    for name, columns in schema().items():
        texts = described[name]
        rows = [
            [f"`{column}`", kind, texts[column]]
            for column, kind in columns.items()
            if column != "run" and (column in texts or name != "clip_files")
        ]
        sections.append("\n\n".join([f"### `{name}`", texts["row"], _table(["column", "type", "meaning"], rows)]))
    return "\n\n".join(sections)


def table_texts() -> dict[str, dict[str, str]]:
    """Return the descriptions of tables and columns."""
    return tomllib.loads((DOCS / "tables.toml").read_text(encoding="utf-8"))


def schema() -> dict[str, dict[str, str]]:
    """Return column -> type for every table, then every view, of a new manifest."""
    from goku_cli.manifest.store import Manifest

    with TemporaryDirectory() as folder, Manifest(Path(folder) / "m.duckdb", create=True) as manifest:
        rows = manifest.query(
            "SELECT table_name, column_name, c.data_type FROM duckdb_columns() c LEFT JOIN duckdb_tables() t "
            "USING (table_name) WHERE NOT c.internal AND table_name <> 'schema_version' "
            "ORDER BY t.table_name IS NULL, c.table_oid, column_index"
        )
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        found.setdefault(row["table_name"], {})[row["column_name"]] = row["data_type"]
    return found


# Metrics, scorers and plans


def clip_metrics() -> str:
    """Return the metrics that `goku eval` takes by default, by their docstrings."""
    from goku_cli.evaluate.clips.metrics import METRICS, metric, title

    rows = []
    for name in METRICS:
        text = " ".join(inspect.cleandoc(metric(name).__doc__ or "").split())
        rows.append(
            [f"`{name}`", f"`{title(name)}`", _escaped(re.sub(r"^Return (.)", lambda found: found[1].upper(), text))]
        )
    return _table(["`--metric`", "column `metric`", "value"], rows)


def scorers() -> str:
    """Return the table of scorers."""
    from goku_cli.filter.scorers import SCORERS, label

    rows = [
        [f"`{name}`", f"`{scorer.metric}`", "yes" if scorer.default else "with `--scorer`",
         "videos and images" if scorer.images else "videos", f"`{label(name)}`"]
        for name, scorer in SCORERS.items()
    ]  # fmt: skip
    return _table(["scorer", "metric", "in use by default", "applies to", "column `scorer`"], rows)


def weights() -> str:
    """Return the files of other people's weights and the commands that get them."""
    from goku_cli.weights import ALL

    rows = [[f"`{w.name}`", _escaped(w.used_by), _code(w.command.format(w.name))] for w in ALL]
    return _table(["file or folder below `$GOKU_WEIGHTS`", "used by", "command"], rows)


def hardware() -> str:
    """Return what `goku plan` says of the recipes of 2B and 8B, and of the fine-tuning of Wan."""
    rows = []
    for path, machine, size, frames in _plans():
        told = _planned(path, machine, size, frames)
        rows.append([
            _recipe_name(path), f"{size}, {frames}", f"{machine[1]} `{machine[0]}`",
            f"{_gib(told['memory_bytes'])} of {_gib(told['memory_room_bytes'])}", f"{told['step_seconds']:.3g} s",
            f"{told['days']:.3g} days, {told['gpu_hours']:,.0f} GPU hours",
        ])  # fmt: skip
    return _table(["recipe", "size, frames", "GPUs", "memory of a GPU", "step", "run"], rows)


def smaller() -> str:
    """Return memory and time of the same recipes on few GPUs."""
    rows = []
    for path, _, size, frames in _plans():
        if path.parent.name == "recipes":
            continue
        told = [_planned(path, machine, size, frames) for machine in SMALLER]
        rows.append([_recipe_name(path), *(
            f"{_gib(t['memory_bytes'])}, {t['days']:.3g} days" if t["memory_bytes"] <= t["memory_room_bytes"]
            else f"no ({_gib(t['memory_bytes'])})" for t in told
        )])  # fmt: skip
    return _table(["recipe", *(f"{count} `{gpu}`" for gpu, count in SMALLER)], rows)


def _plans() -> Iterator[tuple[Path, tuple[str, int], str, int]]:
    """Yield the recipes of 2B, 8B and Wan with the GPUs, size and frames of the plan that their comments name."""
    from goku_cli.recipe import packaged

    for path in [*sorted(packaged().glob("goku-*/*.toml")), packaged("lora-wan-1.3b.toml")]:
        found = re.search(
            r"goku plan \S+ --size (\S+) --frames (\d+) --gpu (\S+) --gpus (\d+)", path.read_text("utf-8")
        )
        if not found:
            raise ValueError(f"{path} names no plan")
        yield path, (found[3], int(found[4])), found[1], int(found[2])


def _recipe_name(path: Path) -> str:
    return f"`{path.stem}`" if path.parent.name == "recipes" else f"`{path.parent.name}/{path.stem}`"


def _planned(path: Path, machine: tuple[str, int], size: str, frames: int) -> dict[str, Any]:
    from goku_cli.train.forecast.forecast import Machine
    from goku_cli.train.forecast.workload import plan_of_sizes
    from goku_cli.train.recipe import load_recipe

    return plan_of_sizes(load_recipe(path), Machine(*machine), size, frames).forecast().figures()


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def plan() -> str:
    """Return what a plan prints."""
    return _printed("plan recipes/goku-2b/3-joint-480p.toml --gpu h100 --gpus 64 --price 2.5")


def shift() -> str:
    """Return what `goku shift` prints of the default law."""
    return _printed("shift")


def _printed(command: str) -> str:
    """Return a block with what a command of goku tells, without spaces at the ends of lines."""
    words = [sys.executable, "-m", "goku_cli", *command.split()]
    env = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(DOCS.parent)}
    done = subprocess.run(words, cwd=DOCS.parent, capture_output=True, text=True, check=True, env=env)
    lines = (done.stderr or done.stdout).strip("\n").splitlines()
    return "\n".join(["```text", *(line.rstrip() for line in lines), "```"])


def packaged_recipes() -> str:
    """Return every training recipe that ships, with the first sentence of its comment."""
    from goku_cli.recipe import packaged

    rows = []
    for path in sorted(packaged().rglob("*.toml")):
        text = path.read_text(encoding="utf-8")
        if re.search(r"^\[train\]", text, re.MULTILINE):
            lines = [line for line in text.partition("\nkind")[0].splitlines() if not re.match("# +goku", line)]
            comment = " ".join(" ".join(line.removeprefix("#") for line in lines).split())
            first = re.match(r".*?(?<!et al)\.(?= |$)", comment)
            rows.append([f"`recipes/{path.relative_to(packaged())}`", _escaped(first[0] if first else comment)])
    return _table(["recipe", "what it is"], rows)


# Markdown


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`"


def _escaped(text: str) -> str:
    """Return plain text that Markdown leaves as it is; what stands between backticks keeps its characters but |."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*<\[])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts).replace("|", r"\|")


BLOCKS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "training-recipe": training_recipe,
    "model-sizes": model_sizes,
    "curation-recipes": curation_recipes,
    "packaged-recipes": packaged_recipes,
    "manifest-tables": manifest_tables,
    "clip-metrics": clip_metrics,
    "scorers": scorers,
    "weights": weights,
    "hardware": hardware,
    "plan": plan,
    "shift": shift,
    "smaller": smaller,
}

if __name__ == "__main__":
    for found in sorted(DOCS.rglob("*.md")):
        text = page(found)
        if text != found.read_text(encoding="utf-8"):
            found.write_text(text, encoding="utf-8")
            sys.stderr.write(f"{found}\n")
