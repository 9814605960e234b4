"""What a tier demands: a recipe of least and greatest figures for videos and for images."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from goku_cli.errors import UsageError
from goku_cli.recipe import build, find, read_toml
from goku_cli.registry import nearest

DEFAULT = "480p"
HASH_PARTS = 8
"""Hashes that differ in fewer bits than this agree in one of so many parts: only those are compared."""


@dataclass(frozen=True)
class Range:
    """Both ends inclusive; None is no limit."""

    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Limits:
    """What a clip of one kind must hold, in the order in which it is asked."""

    short_side: Range = field(default_factory=Range)
    """Pixels, as displayed; with long_side, a size in either orientation."""
    long_side: Range = field(default_factory=Range)
    scores: dict[str, Any] = field(default_factory=dict)
    """Metric -> Range."""

    def ranges(self, where: str) -> dict[str, Range]:
        """Return `scores` as ranges.

        Raises:
            UsageError: a value is not a table of min and max.
        """
        return {name: build(Range, table, f"{where} {name}") for name, table in self.scores.items()}


@dataclass(frozen=True)
class Duplicates:
    """When two clips are one picture: both limits must hold. The one with the better aesthetic score stays."""

    hash_distance: int
    """Bits of 64 in which the key frames' perceptual hashes may differ, at most 7; -1 keeps all."""
    color_distance: float
    """Root mean square difference of the key frames' 8x8 Lab colors, of 255."""


@dataclass(frozen=True)
class Tier:
    """What `recipes/tiers/*.toml` says."""

    video: Limits
    image: Limits
    duplicates: Duplicates


def load_tier(name: str, metrics: Iterable[str]) -> tuple[str, Tier]:
    """Read a tier of a packaged name or a path; return the name of its selection, and the tier.

    Raises:
        UsageError: no such tier, an unknown key, a metric that no scorer in use measures, or a hash distance
            that the search for pairs cannot reach.
    """
    path = find("tiers", name)
    tier = build(Tier, read_toml(path), where=str(path))
    known = list(metrics)
    for limits in (tier.video, tier.image):
        _check(limits.ranges(str(path)), known, str(path))
    if tier.duplicates.hash_distance >= HASH_PARTS:
        raise UsageError(f"{path}: hash_distance must be below {HASH_PARTS}, not {tier.duplicates.hash_distance}")
    return path.stem, tier


def _check(ranges: Mapping[str, Range], known: list[str], where: str) -> None:
    for metric in ranges:
        if metric not in known:
            raise UsageError(
                f'{where}: no scorer measures "{metric}"{nearest(metric, known)}; measured: {", ".join(known)}'
            )
