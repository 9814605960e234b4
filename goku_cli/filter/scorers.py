"""The table of scorers, and which of them are in use: one for each metric.

A scorer is a function of a SampledClip that returns one figure. A model that is fed best with many clips at once is
`batched`: a function without arguments that loads it and returns a function of a list of clips.
A user's own `my_package.scorers:sharpness` measures the metric `sharpness` by the same string.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from goku_cli.registry import load


@dataclass(frozen=True)
class Scorer:
    """What a scorer measures and where it is."""

    metric: str
    target: str
    version: int = 1
    """Raised when the figures change: older ones are then measured again."""
    images: bool = False
    """Whether it applies to a single frame."""
    default: bool = True
    """Whether it is in use when nobody asks for another one of its metric."""
    batched: bool = False
    """Whether it is a model that takes many clips at once."""
    seconds: bool = True
    """Whether a batched one looks at one frame per second only."""


SCORERS = {
    "layout": Scorer("dino_sim", "goku_cli.filter.motion:layout_similarity"),
    "dinov2": Scorer("dino_sim", "goku_cli.filter.dinov2:load", default=False, batched=True),
    "measured": Scorer("aesthetic", "goku_cli.filter.picture:measured_aesthetic", images=True),
    "laion": Scorer("aesthetic", "goku_cli.filter.clip:load_aesthetic", images=True, default=False, batched=True),
    "rapidocr": Scorer("ocr_area", "goku_cli.filter.ocr:rapidocr_area", images=True),
    "easyocr": Scorer("ocr_area", "goku_cli.filter.craft:load", images=True, default=False, batched=True),
    "dis": Scorer("motion", "goku_cli.filter.motion:dis_flow"),
    "raft": Scorer("motion", "goku_cli.filter.raft:load", default=False, batched=True, seconds=False),
    "blur": Scorer("blur", "goku_cli.filter.picture:blur", images=True),
    "black": Scorer("black", "goku_cli.filter.picture:black", images=True),
    "frozen": Scorer("frozen", "goku_cli.filter.motion:frozen", version=2),
    "letterbox": Scorer("letterbox", "goku_cli.filter.picture:letterbox", images=True),
    "overlay": Scorer("watermark", "goku_cli.filter.overlay:overlay"),
    "clip-watermark": Scorer(
        "watermark", "goku_cli.filter.clip:load_watermark", images=True, default=False, batched=True
    ),
    "shake": Scorer("shake", "goku_cli.filter.motion:shake", version=2),
    "clip-nsfw": Scorer("nsfw", "goku_cli.filter.clip:load_nsfw", images=True, default=False, batched=True),
}


def metrics() -> list[str]:
    """Return every metric that a scorer of the table measures."""
    return list(dict.fromkeys(scorer.metric for scorer in SCORERS.values()))


def in_use(asked: Iterable[str]) -> dict[str, str]:
    """Return metric -> scorer: the defaults, and those asked for in place of the default of their metric.

    Raises:
        UsageError: there is no such scorer.
    """
    defaults = {scorer.metric: name for name, scorer in SCORERS.items() if scorer.default}
    return defaults | {resolve(name).metric: name for name in asked}


def resolve(name: str) -> Scorer:
    """Return the scorer of a name in the table, or of a `module:function`.

    Raises:
        UsageError: there is none.
    """
    if name in SCORERS:
        return SCORERS[name]
    function(name)
    return Scorer(name.rpartition(":")[2], name, images=True)


def function(name: str) -> Callable[..., Any]:
    """Import the function of a scorer."""
    targets: dict[str, str] = {known: scorer.target for known, scorer in SCORERS.items()}
    return load(name, targets, "scorer")


def label(name: str) -> str:
    """Return what stands in the column `scorer`: the name and its version, such as `dis@1`."""
    return f"{name}@{resolve(name).version}"
