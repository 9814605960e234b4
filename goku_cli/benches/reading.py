"""The official prompt lists as their authors keep them, read and checked.

Every reader takes the path of one copy and returns its rows, each with `prompt` and what the benchmark's tool wants to
know beside it. The copies that are shipped lie in `lists/` as JSON lines of the same rows.
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from goku_cli.wording import decoded, lines_of

Rows = list[dict[str, Any]]
SHIPPED = Path(__file__).parent / "lists"
ATTRIBUTES = ("color", "shape", "texture")
"""Categories of T2I-CompBench that its BLIP-VQA scores, and that the paper reports."""


def shipped(name: str) -> Rows:
    """Return the rows of the copy that comes with goku."""
    path = next(SHIPPED.glob(f"{name}.jsonl*"))
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in lines_of(data.decode()) if line]


def read_vbench(path: Path) -> Rows:
    """Read VBench_full_info.json: {"prompt_en", "dimension": [...], "auxiliary_info"?}.

    Raises:
        ValueError: it is not such a file; KeyError: a row lacks a field.
    """
    return [{**row, "dimension": list(row["dimension"])} for row in json.loads(path.read_text(encoding="utf-8"))]


def read_geneval(path: Path) -> Rows:
    """Read evaluation_metadata.jsonl: {"tag", "include", "exclude"?, "prompt"}. Raises as `read_vbench`."""
    return [json.loads(line) for line in lines_of(decoded(path.read_bytes())) if line.strip()]


def read_dpg(path: Path) -> Rows:
    """Read the folder of prompts, ID.txt each: {"id", "prompt"}. Raises as `read_vbench`."""
    texts = {file.stem: " ".join(file.read_text(encoding="utf-8").split()) for file in sorted(path.glob("*.txt"))}
    return [{"id": name, "prompt": text} for name, text in texts.items()]


def read_compbench(path: Path) -> Rows:
    """Read one CATEGORY_val.txt, or those of the attributes in a folder: {"category", "prompt"}. Raises as above."""
    files = [path / f"{category}_val.txt" for category in ATTRIBUTES] if path.is_dir() else [path]
    rows = []
    for file in files:
        lines = [line.split("\t")[0].strip() for line in lines_of(decoded(file.read_bytes()))]
        rows += [{"category": file.stem.removesuffix("_val"), "prompt": line} for line in lines if line]
    return rows


READERS: dict[str, Callable[[Path], Rows]] = {
    "vbench": read_vbench,
    "geneval": read_geneval,
    "dpg": read_dpg,
    "t2i-compbench": read_compbench,
}
FIELDS = {
    "vbench": ("prompt_en", "dimension"),
    "geneval": ("prompt", "tag", "include"),
    "dpg": ("prompt", "id"),
    "t2i-compbench": ("prompt", "category"),
}
"""Fields that every row of a list must have."""
