"""Distances between two sets of clips, without learned weights.

The two distances are one figure: appearance is blind to movement (see `features.py`), so neither is given without the
other. Beside them stands the floor, which is what one half of the real clips gives against the other half.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate.result import Figure
from goku_cli.evaluate.run import Suite
from goku_cli.evaluate.sets import features
from goku_cli.evaluate.sets.frechet import Normal, frechet, kid
from goku_cli.evaluate.sets.reference_clips import Footage, drawn_frames, filmed_frames
from goku_cli.manifest.store import Manifest, Row
from goku_cli.stage import Progress

FEWEST_FRAMES = 3
MOST = 2048
"""Clips of each side."""
SHORT_SIDE = 256
"""Pixels of real clips as they are read; features are of less."""

Features = dict[str, np.ndarray]
"""(N, D) by kind."""


def eval_distances(manifest: Manifest, rows: list[Row], real: list[Footage], progress: Progress) -> Suite:
    """Return the distances between the videos of a set of samples and real clips.

    Real clips are read at the samples' frame rate, as many frames as most samples have; shorter ones are left out.

    Raises:
        UsageError: the samples are images.
        GokuError: too few clips on either side; the line says how many it takes.
    """
    videos = [row for row in rows if row["frames"] >= FEWEST_FRAMES]
    if not videos:
        raise UsageError("--real compares videos, and these samples are images; draw some with --frames 9")
    (length, fps), _ = Counter((row["frames"], row["fps"]) for row in videos).most_common(1)[0]
    same = [row for row in videos if (row["frames"], row["fps"]) == (length, fps)][:MOST]
    most = max(features.DIMS.values())
    clips = [clip for clip in real if not clip.image]
    for what, count, need in (("samples of one length", len(same), most), ("real clips", len(clips), 2 * most)):
        if count < need:
            raise GokuError(f"--real needs at least {need} {what}, not {count}: fewer give no covariance")
    progress.start("features", len(same) + min(len(clips), 2 * MOST))
    ours = _stack(drawn_frames(manifest, same, progress))
    theirs = _stack(filmed_frames(clips[: 2 * MOST], length, fps, progress, SHORT_SIDE))
    n = len(ours["motion"])
    return Suite("distance", distances(ours, theirs), len(videos), len(same), n)


def distances(ours: Features, real: Features) -> list[Figure]:
    """Return Frechet and kernel distance by kind of feature, tagged "all" and, of the halves of `real`, "floor".

    Raises:
        GokuError: fewer clips than features on a side, or in a half of the real ones.
    """
    figures = []
    for kind, a_ND in ours.items():
        even_ND, odd_ND = real[kind][::2], real[kind][1::2]
        for tag, left_ND, right_ND in (("all", a_ND, even_ND), ("floor", odd_ND, even_ND)):
            n = min(len(left_ND), len(right_ND))
            left_ND, right_ND = left_ND[:n], right_ND[:n]  # as many on each side: the distance falls with the number
            value = frechet(Normal.of(left_ND), Normal.of(right_ND))
            figures.append(Figure(f"distance.{kind}_fd", value, n, tag))
            figures.append(Figure(f"distance.{kind}_kid", kid(left_ND, right_ND), n, tag))
    return figures


def features_of(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Return both kinds of features of a clip (T, H, W, 3) uint8, T at least 3."""
    return {"appearance": features.appearance(frames), "motion": features.motion(frames)}


def _stack(clips: Iterator[np.ndarray]) -> Features:
    found = [features_of(frames) for frames in clips]
    if not found:
        raise GokuError("--real: not one of the clips could be read")
    return {kind: np.stack([one[kind] for one in found]) for kind in features.DIMS}
