"""Two sets of samples against each other: the same prompts from the same noise, so that each pair says something."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate.bootstrap import interval
from goku_cli.evaluate.run import samples_named
from goku_cli.evaluate.sample_scores import Scores, kept
from goku_cli.evaluate.shapes.scores import CODEC, MISMATCHED, PREFIX
from goku_cli.manifest.store import Manifest, Row


@dataclass(frozen=True)
class Difference:
    """What one metric says of the pairs."""

    metric: str
    a: float
    b: float
    """Means over the pairs that both have a score."""
    difference: float
    """a - b."""
    low: float | None
    high: float | None
    """Ends of the 95 % interval of the difference, by bootstrap over pairs."""
    n: int


@dataclass(frozen=True)
class Comparison:
    """Two sets, pair by pair."""

    differences: list[Difference]
    pairs: int
    only_a: int
    only_b: int
    """Samples without a counterpart."""

    @property
    def line(self) -> str:
        """How many pairs there are, and what has none."""
        return f"compared: {self.pairs} pairs, {self.only_a} samples without a counterpart here, {self.only_b} there"

    @property
    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Columns and lines."""
        lines: list[list[Any]] = []
        for one in self.differences:
            sure = "" if one.low is None else f"{one.low:.4g} to {one.high:.4g}"
            lines.append([one.metric, one.a, one.b, one.difference, sure, one.n])
        return ["metric", "here", "there", "difference", "95 %", "n"], lines


def compare(a: Manifest, a_name: str, b: Manifest, b_name: str | None) -> Comparison:
    """Compare two sets by what their samples scored; a pair has prompt, seed and number of frames in common.

    Raises:
        UsageError: there is no second set, or it was never scored.
        GokuError: no sample of one has a counterpart in the other.
    """
    b_name, b_rows = samples_named(b, b_name)
    if not (b_scores := kept(b, b_name)):
        raise UsageError(f"{b.path}#{b_name} has no scores yet; measure them with: goku eval {b.path}#{b_name}")
    return pair_up(samples_named(a, a_name)[1], kept(a, a_name), b_rows, b_scores)


def pair_up(a_rows: Sequence[Row], a_scores: Scores, b_rows: Sequence[Row], b_scores: Scores) -> Comparison:
    """Compare two sets of rows of `samples` by their scores.

    Raises:
        GokuError: there is no pair.
    """
    a_ids, b_ids = ({_key(row): row["id"] for row in rows} for rows in (a_rows, b_rows))
    both = [(a_ids[key], b_ids[key]) for key in a_ids if key in b_ids]
    if not both:
        raise GokuError("--compare: no sample has a counterpart of the same prompt, seed and frames in the other set")
    controls = PREFIX + MISMATCHED, PREFIX + CODEC
    metrics = dict.fromkeys(n for a_id, _ in both for n in a_scores.get(a_id, {}) if not n.startswith(controls))
    found = [one for metric in metrics if (one := _difference(metric, both, a_scores, b_scores)) is not None]
    return Comparison(found, len(both), len(a_rows) - len(both), len(b_rows) - len(both))


def _key(row: Row) -> tuple[str, int, int]:
    return row["prompt"], row["seed"], row["frames"]


def _difference(metric: str, both: list[tuple[str, str]], a_scores: Scores, b_scores: Scores) -> Difference | None:
    pairs = [(a_scores.get(a_id, {}).get(metric), b_scores.get(b_id, {}).get(metric)) for a_id, b_id in both]
    values_N2 = np.array([pair for pair in pairs if None not in pair], np.float64)
    if not len(values_N2):
        return None
    apart_N = values_N2[:, 0] - values_N2[:, 1]
    a, b = values_N2.mean(0)
    low, high = interval(apart_N.tolist())
    return Difference(metric, float(a), float(b), float(apart_N.mean()), low, high, len(apart_N))
