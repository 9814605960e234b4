"""Metric results, and how they are stored: with the number of samples and the implementation behind each."""

from dataclasses import asdict, dataclass

from goku_cli.manifest.store import Manifest

OWN = "goku"
"""The implementation of what is measured here. A substitute never borrows the name of an official metric."""


@dataclass(frozen=True)
class Figure:
    """What a metric says of a set of samples."""

    metric: str
    """SUITE.NAME, as `video.flicker`; `vbench.` and its like are for what the official tool said."""
    value: float
    n: int
    """Samples that were scored."""
    tag: str = "all"
    """A part of the samples, or a control that stands beside them."""
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval, by bootstrap."""
    implementation: str = OWN
    weights: str = ""
    """SHA-256 of the weights that it rests on."""
    license: str = "Apache-2.0"
    """Of the weights, or of the tool."""


def store(manifest: Manifest, name: str, suite: str, figures: list[Figure], *, expected: int, found: int) -> None:
    """Replace a suite's figures of a set of samples: of `expected` samples, `found` were there."""
    counts = {"name": name, "suite": suite, "expected": expected, "found": found}
    with manifest.transaction():
        manifest.execute("DELETE FROM results WHERE name = ? AND suite = ?", [name, suite])
        manifest.insert("results", [counts | asdict(figure) for figure in figures])
