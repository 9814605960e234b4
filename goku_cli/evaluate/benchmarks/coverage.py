"""Benchmark coverage: the samples that a set has and lacks; official tools shrink their denominators in silence."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.store import Manifest, Row

SHOWN = 3
"""Prompts that a refusal names."""


@dataclass(frozen=True)
class Take:
    """One sample of one row of a benchmark's list."""

    index: int
    """Row of the list, from 0."""
    take: int
    """Which sample of the row it is, from 0."""
    prompt: str
    """The list's own words, also when the model read others."""
    metadata: dict[str, Any]
    """What the benchmark's tool wants to know."""
    file: Path
    sha256: str


@dataclass(frozen=True)
class Coverage:
    """What is there of a benchmark's samples."""

    bench: str
    name: str
    """Of the set."""
    takes: list[Take]
    """Those whose files are there, in the list's order."""
    expected: int
    missing: dict[str, int]
    """Samples that a prompt lacks, by prompt."""
    command: str
    """What draws them."""

    def check(self) -> None:
        """Refuse a set that is not whole.

        Raises:
            GokuError: samples are missing; the line says how many, of which prompts, and what draws them.
        """
        if not self.missing:
            return
        named = ", ".join(f'{count} of "{prompt[:60]}"' for prompt, count in list(self.missing.items())[:SHOWN])
        more = f" and {len(self.missing) - SHOWN} more prompts" if len(self.missing) > SHOWN else ""
        raise GokuError(
            f"{self.name} lacks {sum(self.missing.values()):,} of {self.expected:,} samples of {self.bench}: "
            f"{named}{more}; draw them, with the other options of the set, by: {self.command}; or take what is there: "
            "--partial"
        )


def covered(
    manifest: Manifest, name: str, bench: str, prompts: list[dict[str, Any]], own: Path | None = None
) -> Coverage:
    """Compare a set of samples with a benchmark's list (rows of `bench_prompts`, read from `own`).

    Samples beyond what the protocol asks for are left out: tools that average over images would count them.

    Raises:
        UsageError: the set has no sample of the benchmark, or was drawn from another list.
    """
    rows = manifest.query("SELECT * FROM samples WHERE name = ? AND metadata IS NOT NULL ORDER BY run, id", [name])
    drawn = list(_asked(rows, bench))
    checkpoint = drawn[0][0]["checkpoint"] if drawn else "CHECKPOINT"
    command = f"goku sample {checkpoint} --bench {bench}{f' --list {own}' if own else ''} -m {manifest.path}"
    if not drawn:
        raise UsageError(f"{name} has no samples of {bench}; draw them with: {command}")
    found: dict[tuple[int, int], Take] = {}
    for row, asked in drawn:
        index, take = asked["index"], asked["take"]
        if index >= len(prompts) or prompts[index]["prompt"] != row["prompt"]:
            raise UsageError(f'row {index + 1} of the list of {bench} is not "{row["prompt"]}", for which {name} has a '
                             "sample; give the list that it was drawn from")  # fmt: skip
        file, listed = manifest.path.parent / row["path"], prompts[index]
        if file.exists() and take < listed["count"]:
            found[index, take] = Take(index, take, listed["prompt"], listed["metadata"], file, row["sha256"])
    lacking: Counter[str] = Counter()
    for index, listed in enumerate(prompts):
        if gone := sum((index, take) not in found for take in range(listed["count"])):
            lacking[listed["prompt"]] += gone
    expected = sum(listed["count"] for listed in prompts)
    return Coverage(bench, name, [found[key] for key in sorted(found)], expected, dict(lacking), command)


def _asked(rows: list[Row], bench: str) -> Iterator[tuple[Row, dict[str, Any]]]:
    for row in rows:
        asked = json.loads(row["metadata"])
        # Metadata of a user's own prompts may be anything.
        if isinstance(asked, dict) and asked.get("bench") == bench and {"index", "take"} <= asked.keys():
            yield row, asked
