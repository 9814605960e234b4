"""Images against real images by Inception-v3: FID, sFID, inception score, precision and recall.

FID is the Frechet distance of its 2048 pooled features (Heusel et al. 2017), sFID of 2023 that keep their places (Nash
et al. 2021). Layers, parts and neighbors are those of OpenAI's evaluator. What differs: real images are cut to the
middle and scaled to the samples' size by Pillow's bicubic filter, and the network is the port to PyTorch.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate.result import Figure
from goku_cli.evaluate.run import Suite
from goku_cli.evaluate.sets.frechet import Normal, frechet
from goku_cli.evaluate.sets.inception_score import inception_score
from goku_cli.evaluate.sets.precision_recall import NEIGHBOR, precision_recall
from goku_cli.evaluate.sets.reference_clips import Footage, drawn_frames, filmed_frames, fitted
from goku_cli.manifest.store import Manifest, Row
from goku_cli.stage import Progress

KIND = {"fid": "pool", "sfid": "spatial", "inception_score": "logits", "precision": "pool", "recall": "pool"}
"""Which features a metric reads."""
ALONE = "inception_score"
"""The one that needs no real images."""
AMONG = 10_000
"""Real images whose manifold is taken, as in OpenAI's evaluator; distances take all."""
BATCH = 64

Features = dict[str, np.ndarray]
"""(N, D) by kind."""


class Extractor(Protocol):
    """A network that sees pictures of one size; as a rule `vision.inception.Inception`."""

    dims: Mapping[str, int]
    implementation: str
    license: str
    sha256: str

    def __call__(self, pictures: Sequence[np.ndarray]) -> Features:
        """Return features (N, D) by kind."""
        ...


def eval_images(
    manifest: Manifest, rows: list[Row], real: list[Footage], names: Sequence[str], extractor: Extractor,
    progress: Progress,
) -> Suite:  # fmt: skip
    """Return the figures `names` of a set's images of the most common size.

    Raises:
        UsageError: the samples are videos.
        GokuError: too few images on a side.
    """
    images = [row for row in rows if row["frames"] == 1]
    if not images:
        raise UsageError(f"{', '.join(names)} looks at images, and these samples are videos; of videos there is fvd")
    (height, width), _ = Counter((row["height"], row["width"]) for row in images).most_common(1)[0]
    same = [row for row in images if (row["height"], row["width"]) == (height, width)]
    photos = [one for one in real if one.image] if set(names) - {ALONE} else []
    _check(names, len(same), len(photos), extractor)
    progress.start("inception", len(same) + len(photos))
    kinds = {KIND[name] for name in names}
    ours = gather((frames[0] for frames in drawn_frames(manifest, same, progress)), extractor, kinds)
    seen = (fitted(frames, height, width)[0] for frames in filmed_frames(photos, 1, 1.0, progress))
    theirs = gather(seen, extractor, kinds - {KIND[ALONE]}) if photos else {}
    n, m = _count(ours), _count(theirs)
    _check(names, n, m, extractor)  # again: some could not be read
    figures = [
        Figure(f"inception.{name}", value, n, implementation=extractor.implementation, weights=extractor.sha256,
               license=extractor.license)
        for name, value in values(names, ours, theirs).items()
    ]  # fmt: skip
    notes = [f"inception: against {m:,} real images, of {len(photos):,}, as {height}x{width}"] if photos else []
    return Suite("inception", figures, len(rows), len(images), n, notes)


def values(names: Sequence[str], ours: Features, real: Features) -> dict[str, float]:
    """Return figures by name, of features by kind."""
    found: dict[str, float] = {}
    for name in names:
        kind = KIND[name]
        if name == ALONE:
            found[name] = inception_score(ours[kind])
        elif name in ("fid", "sfid"):
            found[name] = frechet(Normal.of(ours[kind]), Normal.of(real[kind]))
    if {"precision", "recall"} & set(names):
        both = dict(zip(("precision", "recall"), precision_recall(ours["pool"], real["pool"][:AMONG]), strict=True))
        found |= {name: value for name, value in both.items() if name in names}
    return found


def gather(pictures: Iterator[np.ndarray], extractor: Extractor, kinds: set[str]) -> Features:
    """Return features of pictures (H, W, 3) uint8 of one size, a batch at a time."""
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    while batch := list(itertools.islice(pictures, BATCH)):
        seen = extractor(batch)
        for kind, parts in found.items():
            parts.append(seen[kind])
    return {kind: np.concatenate(parts) for kind, parts in found.items() if parts}


def _check(names: Sequence[str], ours: int, real: int, extractor: Extractor) -> None:
    for name in names:
        least = 1
        if name != ALONE:
            least = extractor.dims[KIND[name]] if name in ("fid", "sfid") else NEIGHBOR + 1
        if ours < least or (name != ALONE and real < least):
            sides = "" if name == ALONE else f" and {real:,}"
            raise GokuError(f"{name} needs at least {least:,} images on each side, not {ours:,}{sides}")


def _count(features: Features) -> int:
    return max(map(len, features.values()), default=0)
