"""Tiers: minimum and maximum scores for videos and for images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from goku_cli.errors import UsageError
from goku_cli.filter.scorers import metrics
from goku_cli.recipe import build, find, read_toml
from goku_cli.registry import nearest

DEFAULT = "480p"
MOST_BITS = 15
"""Perceptual hashes of unlike pictures begin to agree beyond it."""


@dataclass(frozen=True)
class Range:
    """Both ends inclusive; None is no limit."""

    min: float | None = None
    """Least value."""
    max: float | None = None
    """Greatest value."""


@dataclass(frozen=True)
class Limits:
    """What a clip of one kind must hold, in the order in which it is asked."""

    short_side: Range = field(default_factory=Range)
    """Pixels, as displayed; with long_side, a size in either orientation."""
    long_side: Range = field(default_factory=Range)
    """Pixels of the longer side, as displayed."""
    scores: dict[str, Any] = field(default_factory=dict)
    """Metric -> Range, or metric -> scorer -> Range: figures of two models do not lie on one scale."""

    def ranges(self, scorers: Mapping[str, str], where: str) -> dict[str, Range]:
        """Return the range of each metric in `scorers` (metric -> scorer); what nobody measures is not asked for.

        Raises:
            UsageError: an unknown metric, no range for the scorer in use, or a value that is no table of ranges.
        """
        known = [*metrics(), *scorers]
        for metric in self.scores:
            if metric not in known:
                raise UsageError(
                    f'{where}: no scorer measures "{metric}"{nearest(metric, known)}; known: {", ".join(known)}'
                )
        return {
            metric: _range(table, scorers[metric], f"{where}: {metric}")
            for metric, table in self.scores.items()
            if metric in scorers
        }


@dataclass(frozen=True)
class Duplicates:
    """When two clips are one picture: both limits must hold. The one with the better aesthetic score stays."""

    hash_distance: int
    """Bits of 64 in which the key frames' perceptual hashes may differ; -1 keeps all."""
    color_distance: float
    """Root mean square difference of the key frames' 8x8 Lab colors, of 255."""
    scope: str = "set"
    """`set`: across all clips; `source`: among the clips of one source, as in the paper."""


@dataclass(frozen=True)
class TierRecipe:
    """What `recipes/tiers/*.toml` says."""

    video: Limits
    image: Limits
    duplicates: Duplicates


@dataclass(frozen=True)
class Tier(TierRecipe):
    """A recipe with its name and the scorers whose figures it is applied to."""

    name: str
    scorers: Mapping[str, str]
    """Metric -> the scorer in use."""
    where: str


def load_tier(name: str, scorers: Mapping[str, str]) -> Tier:
    """Read a tier of a packaged name or a path, for the scorers in use (metric -> scorer).

    Raises:
        UsageError: no such tier, an unknown key or metric, or a limit that makes no sense.
    """
    path = find("tiers", name)
    recipe = build(TierRecipe, read_toml(path), where=str(path))
    tier = Tier(**vars(recipe), name=path.stem, scorers=scorers, where=str(path))
    for limits in (tier.video, tier.image):
        limits.ranges(scorers, str(path))
    if not -1 <= tier.duplicates.hash_distance <= MOST_BITS:
        raise UsageError(f"{path}: hash_distance must be -1 to {MOST_BITS}, not {tier.duplicates.hash_distance}")
    if tier.duplicates.scope not in ("set", "source"):
        raise UsageError(f'{path}: scope must be "set" or "source", not "{tier.duplicates.scope}"')
    return tier


def _range(table: Any, scorer: str, where: str) -> Range:
    if isinstance(table, dict) and table and all(isinstance(value, dict) for value in table.values()):
        if scorer not in table:
            has = ", ".join(table)
            raise UsageError(
                f'{where} has limits for {has}, not for the scorer in use; add "{scorer}" = {{ min = ... }}'
            )
        table = table[scorer]
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table such as {{ min = 0.5 }}, not {table!r}")
    return build(Range, table, where)
