"""Are samples like real clips: distances between two sets of clips, without learned weights.

The two distances are one figure: appearance is blind to movement (see `features.py`), so neither is given without the
other. Beside them stands the floor, which is what one half of the real clips gives against the other half.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate import features
from goku_cli.evaluate.figure import Figure
from goku_cli.evaluate.frechet import Normal, frechet, kid
from goku_cli.evaluate.measure import read_sample
from goku_cli.evaluate.run import Suite
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.frames import read_frames
from goku_cli.stage import Progress

FEWEST_FRAMES = 3
MOST = 2048
"""Clips of each side."""

Features = dict[str, np.ndarray]
"""(N, D) by kind."""


def eval_distances(
    manifest: Manifest, rows: list[Row], real: Manifest, selection: str | None, progress: Progress
) -> Suite:
    """Return the distances between the videos of a set of samples and the clips that a selection keeps.

    Real clips are read at the samples' frame rate, as many frames as most samples have; shorter ones are left out.

    Raises:
        UsageError: there is no selection, or the samples are images.
        GokuError: too few clips on either side; the line says how many it takes.
    """
    videos = [row for row in rows if row["frames"] >= FEWEST_FRAMES]
    if not videos:
        raise UsageError("--real compares videos, and these samples are images; draw some with --frames 9")
    (length, fps), _ = Counter((row["frames"], row["fps"]) for row in videos).most_common(1)[0]
    same = [row for row in videos if (row["frames"], row["fps"]) == (length, fps)][:MOST]
    most = max(features.DIMS.values())
    clips = _clips(real, real.selection(selection))
    for what, count, need in (("samples of one length", len(same), most), ("real clips", len(clips), 2 * most)):
        if count < need:
            raise GokuError(f"--real needs at least {need} {what}, not {count}: fewer give no covariance")
    progress.start("features", len(same) + min(len(clips), 2 * MOST))
    ours = _stack(_drawn(manifest, same, progress))
    theirs = _stack(_filmed(clips[: 2 * MOST], length, fps, progress))
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


def _clips(real: Manifest, selection: str) -> list[Row]:
    """Return the kept videos of a selection, in the order of a hash, so that halves are as good as drawn."""
    return real.query(
        "SELECT source_path, start_us, end_us FROM clip_files JOIN selections ON clip = id"
        " WHERE name = ? AND reason IS NULL AND end_us > start_us ORDER BY md5(id)",
        [selection],
    )


def _drawn(manifest: Manifest, rows: list[Row], progress: Progress) -> Iterator[np.ndarray]:
    for row in rows:
        progress.advance()
        try:
            yield read_sample(manifest.path.parent / row["path"], row["sha256"])
        except GokuError:  # a row in `failures` says so already
            continue


def _filmed(clips: list[Row], length: int, fps: float, progress: Progress) -> Iterator[np.ndarray]:
    for clip in clips:
        progress.advance()
        span = {"start_us": clip["start_us"], "end_us": clip["end_us"]}
        try:
            frames = [frame for _, frame in read_frames(Path(clip["source_path"]), **span, fps=fps, short_side=256)]
        except GokuError:
            continue
        if len(frames) >= length:
            yield np.stack(frames[:length])


def _stack(clips: Iterator[np.ndarray]) -> Features:
    found = [features_of(frames) for frames in clips]
    if not found:
        raise GokuError("--real: not one of the clips could be read")
    return {kind: np.stack([one[kind] for one in found]) for kind in features.DIMS}
