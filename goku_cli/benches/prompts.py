"""The prompts of a benchmark, as `goku sample --bench` draws them and `goku eval` looks for them."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from goku_cli.benches.protocol import BENCHES, FLICKERING, FLICKERING_TAKES, NAMES, SHAPES
from goku_cli.benches.reading import FIELDS, READERS, Rows, shipped
from goku_cli.errors import UsageError
from goku_cli.registry import load, nearest


def bench_prompts(name: str, file: Path | None = None, parts: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the rows of a benchmark's list, in its order: {"prompt", "metadata", "tag", "frames", "count"}.

    `metadata` is what the benchmark's tool wants to know of the prompt, `frames` 1 for an image and 0 for a clip as
    long as the model draws, `count` the samples of a prompt that the protocol asks for. Rows of shapes have `seen` too.

    Args:
        file: the user's own copy of the list, in the authors' format; None reads the one that comes with goku.
        parts: only rows with one of these tags; nothing is all of them.

    Raises:
        UsageError: no such benchmark, `file` is not its list, or it has no such part.
    """
    rows = _all_prompts(name, file)
    known = {row["tag"]: None for row in rows}
    if unknown := [part for part in parts if part not in known]:
        raise UsageError(f'{name} has no part "{unknown[0]}"{nearest(unknown[0], list(known))}; it has: '
                         f"{', '.join(known)}")  # fmt: skip
    return [row for row in rows if not parts or row["tag"] in parts]


def _all_prompts(name: str, file: Path | None) -> list[dict[str, Any]]:
    if name not in NAMES:
        raise UsageError(f'unknown benchmark "{name}"{nearest(name, list(NAMES))}; known: {", ".join(NAMES)}')
    if name == "shapes":
        if file is not None:
            raise UsageError(f"the prompts of shapes are made, not read; leave {file} out")
        return [{**row, "count": 1} for row in load(SHAPES, {}, "benchmark")()]
    bench = BENCHES[name]
    rows = shipped(name) if file is None else _read(name, file)
    numbers: dict[str, int] = {}
    found = []
    for row in rows:
        metadata = {key: value for key, value in row.items() if key not in ("prompt", "prompt_en")}
        if name == "geneval":
            metadata = row  # its tool wants the whole line beside the images
        elif name == "t2i-compbench":
            metadata["number"] = numbers[row["category"]] = numbers.get(row["category"], -1) + 1
        prompt = row["prompt_en"] if name == "vbench" else row["prompt"]
        found.append(
            {
                "prompt": prompt,
                "metadata": metadata,
                "tag": _tag(row),
                "frames": bench.frames,
                "count": _count(name, row),
            }
        )
    return found


def _read(name: str, file: Path) -> Rows:
    bench = BENCHES[name]
    try:
        rows = READERS[name](file)
        bad = [i for i, row in enumerate(rows, 1) if not all(row[field] for field in FIELDS[name])]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        reason = f"a row lacks {error}" if isinstance(error, KeyError) else str(error)
    else:
        if rows and not bad:
            return rows
        reason = f"row {bad[0]} has an empty field" if bad else "it holds no prompts"
    raise UsageError(
        f"{file} is not the list of {name} ({reason}); the official one is {bench.official} of: {bench.checkout}"
    )


def _tag(row: dict[str, Any]) -> str:
    dimensions = row.get("dimension")
    return dimensions[0] if dimensions else row.get("tag") or row.get("category") or "all"


def _count(name: str, row: dict[str, Any]) -> int:
    return FLICKERING_TAKES if FLICKERING in row.get("dimension", []) else BENCHES[name].count
