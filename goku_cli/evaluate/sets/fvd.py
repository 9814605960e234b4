"""Clips against real clips by I3D: FVD (Unterthiner et al. 2018), as StyleGAN-V measures it.

Frechet distance of 400 features of the first 16 frames of each clip: samples as they were drawn, real clips at the
samples' frame rate, cut to the middle and scaled to the samples' size. FVD hardly sees movement (Ge et al. 2024), so
the distances of `distribution.py` stand beside it.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate.result import Figure
from goku_cli.evaluate.run import Suite
from goku_cli.evaluate.sets.frechet import Normal, frechet
from goku_cli.evaluate.sets.reference_clips import Footage, drawn_frames, filmed_frames, fitted
from goku_cli.manifest.store import Manifest, Row
from goku_cli.stage import Progress

BATCH = 8


class Extractor(Protocol):
    """A network that sees clips of one length and size; as a rule `vision.i3d.VideoNet`."""

    dims: int
    frames: int
    implementation: str
    license: str
    sha256: str

    def __call__(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return features (N, D)."""
        ...


def eval_fvd(
    manifest: Manifest, rows: list[Row], real: list[Footage], extractor: Extractor, progress: Progress
) -> Suite:
    """Return the FVD of a set's videos of the most common size and frame rate.

    Raises:
        UsageError: some samples are shorter than 16 frames.
        GokuError: too few clips on a side.
    """
    if short := sum(row["frames"] < extractor.frames for row in rows):
        raise UsageError(
            f"fvd looks at {extractor.frames} frames, and {short:,} of {len(rows):,} samples have fewer; "
            f"draw them with: goku sample --frames {extractor.frames + 1}"
        )
    (height, width, fps), _ = Counter((r["height"], r["width"], r["fps"]) for r in rows).most_common(1)[0]
    same = [r for r in rows if (r["height"], r["width"], r["fps"]) == (height, width, fps)]
    clips = [clip for clip in real if not clip.image]
    _check(len(same), len(clips), extractor.dims)
    progress.start("i3d", len(same) + len(clips))
    ours_ND = gather((frames[: extractor.frames] for frames in drawn_frames(manifest, same, progress)), extractor)
    filmed = filmed_frames(clips, extractor.frames, fps, progress)
    theirs_MD = gather((fitted(frames, height, width) for frames in filmed), extractor)
    n, m = len(ours_ND), len(theirs_MD)
    _check(n, m, extractor.dims)  # again: some could not be read, or are short
    value = frechet(Normal.of(ours_ND), Normal.of(theirs_MD))
    figure = Figure("i3d.fvd", value, n, implementation=extractor.implementation, weights=extractor.sha256,
                    license=extractor.license)  # fmt: skip
    note = f"i3d: against {m:,} real clips, of {len(clips):,}, {extractor.frames} frames at {fps:g} fps"
    return Suite("i3d", [figure], len(rows), len(same), n, [note])


def gather(clips: Iterator[np.ndarray], extractor: Extractor) -> np.ndarray:
    """Return the features (N, D) of clips (T, H, W, 3) uint8 of one size, a batch at a time."""
    parts = [np.zeros((0, extractor.dims), np.float32)]
    while batch := list(itertools.islice(clips, BATCH)):
        parts.append(extractor(batch))
    return np.concatenate(parts)


def _check(ours: int, real: int, least: int) -> None:
    if min(ours, real) < least:
        raise GokuError(f"fvd needs at least {least:,} clips on each side, not {ours:,} and {real:,}")
