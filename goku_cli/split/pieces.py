"""From cuts to clips: pure arithmetic on frame numbers."""

import itertools
import math
from dataclasses import dataclass

from goku_cli.media.layout import similarity
from goku_cli.split.fades import fade_gaps
from goku_cli.split.measure import Measured, Sample
from goku_cli.split.settings import SplitSettings


@dataclass(frozen=True)
class Piece:
    """Frames [first, end) of a source, and what opened it: start, cut, fade, similarity or length."""

    first: int
    end: int
    opened_by: str


def pieces(found: Measured, settings: SplitSettings) -> list[Piece]:
    """Return the clips of a source in order: within length limits, without a frame of a fade."""
    ends_us = [*found.times_us.tolist(), _end_us(found)]
    gaps = fade_gaps(found.times_us, found.luma, found.contrast, settings.min_seconds * 1e6)
    opened = {0: "start"} | dict.fromkeys(found.cuts, "cut")
    opened |= {end: "fade" for _, end in gaps} | {first: "fade" for first, _ in gaps}
    for number in _second_cuts(found, sorted(opened), settings.min_similarity):
        opened.setdefault(number, "similarity")
    faded = {number for first, end in gaps for number in range(first, end)}
    starts = sorted(opened)
    whole = [
        Piece(first, end, opened[first])
        for first, end in zip(starts, [*starts[1:], len(found.times_us)], strict=True)
        if first not in faded and first < end
    ]
    divided = [part for piece in whole for part in _divide(piece, ends_us, settings.max_seconds)]
    return [part for part in divided if ends_us[part.end] - ends_us[part.first] >= settings.min_seconds * 1e6 - 1]


def times(found: Measured, piece: Piece) -> tuple[int, int]:
    """Return [start, end) of a piece in microseconds since the first frame."""
    last = piece.end == len(found.times_us)
    return int(found.times_us[piece.first]), _end_us(found) if last else int(found.times_us[piece.end])


def middle(piece: Piece) -> int:
    """Return the number of a piece's key frame."""
    return (piece.first + piece.end - 1) // 2


def nearest_sample(found: Measured, piece: Piece) -> Sample:
    """Return the sample nearest to the middle of a piece, among those inside it when there is one."""
    centre = middle(piece)
    return min(found.samples, key=lambda s: (not piece.first <= s.number < piece.end, abs(s.number - centre)))


def _second_cuts(found: Measured, shots: list[int], least: float) -> list[int]:
    """Compare frames a second apart inside each shot (every other sample)."""
    seconds = found.samples[::2]
    cuts = []
    for before, after in itertools.pairwise(seconds):
        within = not any(before.number < cut <= after.number for cut in shots)
        if within and similarity(before.feature, after.feature) < least:
            cuts.append(after.number)
    return cuts


def _divide(piece: Piece, ends_us: list[int], max_seconds: float) -> list[Piece]:
    length = ends_us[piece.end] - ends_us[piece.first]
    count = math.ceil(length / (max_seconds * 1e6) - 1e-6)
    if count < 2:
        return [piece]
    # Even parts: a fixed stride would leave a last part that is too short to keep. Rounding down to a whole
    # frame keeps each part but the last below the limit, and one part more is cut when the last is over it.
    frames = piece.end - piece.first
    marks = [piece.first + frames * part // count for part in range(count + 1)]
    if any(ends_us[b] - ends_us[a] > max_seconds * 1e6 for a, b in itertools.pairwise(marks)):
        count += 1
        marks = [piece.first + frames * part // count for part in range(count + 1)]
    return [Piece(a, b, piece.opened_by if a == piece.first else "length") for a, b in itertools.pairwise(marks)]


def _end_us(found: Measured) -> int:
    """The last frame is shown as long as the one before it."""
    last = found.times_us[-2:]
    return int(last[-1] + (last[-1] - last[0] if len(last) == 2 else 0))
