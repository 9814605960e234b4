"""Where prompts come from: the command line, a file, stdin, or a benchmark's own list."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from goku_cli.errors import UsageError
from goku_cli.registry import load
from goku_cli.sample.generate import Request

BENCHES = {"shapes": "goku_cli.shapes.prompts:benchmark_prompts"}


def read_prompts(path: Path) -> list[dict[str, object]]:
    """Return the prompts of a file: one a line, or JSON lines with `prompt` and optional `frames`.

    Raises:
        UsageError: the file is missing, empty or not UTF-8.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read prompts from {path}: {error}") from error
    rows: list[dict[str, object]] = [
        json.loads(line) if line.startswith("{") else {"prompt": line} for line in lines if line
    ]
    if not rows:
        raise UsageError(f"{path} holds no prompts; write one a line")
    return rows


def requests(
    rows: list[dict[str, object]],
    make: Callable[[str, int, int], Request],
    *,
    frames: int,
    seed: int,
    count: int,
) -> list[Request]:
    """Return `count` requests a prompt, seeds counted from `seed`; `frames` overrules what a row says."""
    found: list[Request] = []
    for row in rows:
        prompt = str(row["prompt"])
        for _ in range(count):
            request = make(prompt, seed + len(found), frames or int(str(row.get("frames", 0))))
            if "metadata" in row:
                wanted = {"metadata": row["metadata"], "seen": row["seen"]}
                request = replace(request, metadata=json.dumps(wanted))
            found.append(request)
    return found


def bench_prompts(name: str) -> list[dict[str, object]]:
    """Return a benchmark's prompts.

    Raises:
        UsageError: no such benchmark.
    """
    rows: list[dict[str, object]] = load(name, BENCHES, "benchmark")()
    return rows
