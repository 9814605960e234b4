"""From cuts to clips: pure arithmetic on frame numbers."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from goku_cli.split.cuts import true_cuts
from goku_cli.split.dissolves import dissolve_gaps
from goku_cli.split.fades import fade_gaps
from goku_cli.split.measure import Measured, Sample
from goku_cli.split.settings import SplitSettings


@dataclass(frozen=True)
class Piece:
    """Frames [first, end) of a source, and what opened it.

    That is start, cut, fade, dissolve, similarity, length, damage, size or gap.
    """

    first: int
    end: int
    opened_by: str


def pieces(found: Measured, settings: SplitSettings) -> list[Piece]:
    """Return the clips of a source in order: within length limits, without a frame of a fade or a dissolve."""
    fades = fade_gaps(found.times_us, found.luma, found.contrast, settings.min_seconds * 1e6)
    cuts = true_cuts(found.cuts, found.times_us, found.gray, found.colors)
    dissolves = dissolve_gaps(found.gray, {*cuts, *found.breaks, *(number for gap in fades for number in gap)})
    opened = {0: "start"} | dict.fromkeys(cuts, "cut")
    for why, gaps in (("dissolve", dissolves), ("fade", fades)):
        opened |= {number: why for gap in gaps for number in gap}
    opened |= found.breaks
    for number in _second_cuts(found, sorted(opened), settings.least_similarity):
        opened.setdefault(number, "similarity")
    left_out = {number for first, end in fades + dissolves for number in range(first, end)}
    starts = sorted(opened)
    whole = [
        Piece(first, end, opened[first])
        for first, end in itertools.pairwise([*starts, len(found.times_us)])
        if first not in left_out and first < end
    ]
    ends_us = found.ends_us
    divided = [part for piece in whole for part in _divide(piece, found, settings.max_seconds)]
    least_us = settings.min_seconds * 1e6 - 1
    return [part for part in divided if ends_us[part.end - 1] - found.times_us[part.first] >= least_us]


def times(found: Measured, piece: Piece) -> tuple[int, int]:
    """Return [start, end) of a piece in microseconds since the first frame."""
    return int(found.times_us[piece.first]), int(found.ends_us[piece.end - 1])


def middle(piece: Piece) -> int:
    """Return the number of a piece's key frame."""
    return (piece.first + piece.end - 1) // 2


def nearest_sample(found: Measured, piece: Piece) -> Sample:
    """Return the sample nearest to the middle of a piece, among those inside it when there is one."""
    center = middle(piece)
    return min(found.samples, key=lambda s: (not piece.first <= s.number < piece.end, abs(s.number - center)))


def _second_cuts(found: Measured, shots: list[int], least: float) -> list[int]:
    """Compare frames a second apart inside each shot (every other sample)."""
    cuts = []
    edges = np.array(shots)
    seconds = [(sample.number, sample.feature) for sample in found.samples if sample.feature is not None]
    for (before, one), (after, other) in itertools.pairwise(seconds):
        between = np.searchsorted(edges, (before, after), side="right")
        if between[0] == between[1] and float(one @ other) < least:
            cuts.append(after)
    return cuts


def _divide(piece: Piece, found: Measured, max_seconds: float) -> list[Piece]:
    start_us, end_us = times(found, piece)
    count = math.ceil((end_us - start_us) / (max_seconds * 1e6) - 1e-6)
    if count < 2:
        return [piece]
    # Even parts: a fixed stride would leave a last part that is too short to keep. Rounding down to a whole
    # frame keeps each part but the last below the limit, and one part more is cut when the last is over it.
    # Where frames do not come evenly, parts are cut by the clock instead.
    for parts in (count, count + 1):
        marks = _marks(piece, parts)
        if all(b <= a + max_seconds * 1e6 for a, b in itertools.pairwise([*found.times_us[marks[:-1]], end_us])):
            break
    else:
        marks = _by_the_clock(piece, found, max_seconds)
    return [Piece(a, b, piece.opened_by if a == piece.first else "length") for a, b in itertools.pairwise(marks)]


def _marks(piece: Piece, count: int) -> list[int]:
    return sorted({piece.first + (piece.end - piece.first) * part // count for part in range(count + 1)})


def _by_the_clock(piece: Piece, found: Measured, max_seconds: float) -> list[int]:
    """Return where parts begin that are each as long as they may be; no frame of a piece stands longer than that."""
    marks, ends_us = [piece.first], found.ends_us
    for number in range(piece.first + 1, piece.end):
        if ends_us[number] - found.times_us[marks[-1]] > max_seconds * 1e6:
            marks.append(number)
    return [*marks, piece.end]
