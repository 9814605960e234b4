"""Dissolves: the frames in which one shot turns into the next, and which belong to neither.

Half way through a dissolve the picture is the mean of two pictures that have nothing in common. So it lies between
the ends of the dissolve, and its edges are half as strong, because two patterns that are unlike each other never
add up. Motion is different: between two far points of a pan lies a third picture, as crisp as they are. A change of
light is different too: its ends are the same picture, brighter.
"""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

LENGTHS = (6, 8, 10, 13, 17, 22, 29, 38, 50, 65)
"""Frames from the picture before to the picture after that are compared."""
LEAST_DISTANCE = 12.0
"""Between the ends: root mean square of gray levels."""
MOST_ALIKE = 0.6
"""Correlation of the ends."""
MOST_CRISP = 0.7
"""Energy of the middle's edges, as a share of the mean of the ends'; 0.5 for still pictures, 1 for motion."""
MOST_BEND = 0.5
"""How far the middle may lie from the line between the ends, as a share of their distance."""
MOST = 1.0
"""The two together."""
LEAST_EXPLAINED = 0.8
"""Share of the progress around a dissolve that a ramp between two levels explains."""
GRID = 60
"""Places at which a ramp is tried to begin, and to end."""
MARGIN = 0.05
"""What is left out on either side, as a share of a dissolve's length: real ones begin and end slowly."""
SIDE = 16
CHUNK = 2048


@dataclass(frozen=True)
class _Window:
    """Frames `first` and `last`, between which a dissolve may lie; the lower the score, the likelier."""

    first: int
    last: int
    score: float


def dissolve_gaps(gray: np.ndarray, edges: Iterable[int]) -> list[tuple[int, int]]:
    """Return [first, end) frame numbers of dissolves in gray pictures, uint8 (N, 32, 32); none spans an edge."""
    pictures = _vectors(gray)
    bounds = sorted({0, len(pictures), *edges})
    gaps: list[tuple[int, int]] = []
    for window in sorted(_windows(pictures, _crispness(gray)), key=lambda one: one.score):
        place = bisect.bisect_right(bounds, window.first)
        within = bounds[place - 1], bounds[place]
        if window.last >= within[1] or any(first < window.last and window.first < end for first, end in gaps):
            continue
        gap = _extent(pictures, window, within)
        if gap is not None:
            gaps.append(gap)
    return sorted(gaps)


def _vectors(gray: np.ndarray) -> np.ndarray:
    """Halve the pictures and lay each out as a vector: what is finer moves too much to lie on a line."""
    factor = gray.shape[1] // SIDE
    return gray.reshape(len(gray), SIDE, factor, SIDE, factor).mean((2, 4), dtype=np.float32).reshape(len(gray), -1)


def _crispness(gray: np.ndarray) -> np.ndarray:
    """Return the energy of the edges of each picture."""
    energy = np.empty(len(gray), np.float32)
    for begin in range(0, len(gray), CHUNK):
        part = gray[begin : begin + CHUNK].astype(np.float32)
        across, down = np.diff(part, axis=2), np.diff(part, axis=1)
        energy[begin : begin + CHUNK] = (across**2).mean((1, 2)) + (down**2).mean((1, 2))
    return energy


def _windows(pictures: np.ndarray, crisp: np.ndarray) -> list[_Window]:
    found = []
    for length in LENGTHS:
        for begin in range(0, max(0, len(pictures) - length), CHUNK):
            part = slice(begin, begin + CHUNK + length)
            score = _scores(pictures[part], crisp[part], length)
            for place in np.flatnonzero(score <= MOST):
                found.append(_Window(begin + int(place), begin + int(place) + length, float(score[place])))
    return found


def _scores(pictures: np.ndarray, crisp: np.ndarray, length: int) -> np.ndarray:
    """Return the score of every window of a length; infinite where it cannot be a dissolve."""
    half = length // 2
    score = np.full(len(pictures) - length, np.inf)
    dip = crisp[half : half + len(score)] / np.maximum((crisp[:-length] + crisp[length:]) / 2, 1e-6)
    at = np.flatnonzero(dip <= MOST_CRISP)
    before, middle, after = pictures[at], pictures[at + half], pictures[at + length]
    line = after - before
    squared = np.maximum(np.sum(line**2, 1), 1e-6)
    share = np.sum((middle - before) * line, 1) / squared
    bend = np.sqrt(np.sum((middle - before - share[:, None] * line) ** 2, 1) / squared)
    kept = (squared / pictures.shape[1] > LEAST_DISTANCE**2) & (bend <= MOST_BEND) & (np.abs(share - 0.5) < 0.35)
    kept &= _correlation(before, after) <= MOST_ALIKE
    score[at[kept]] = (dip[at] + bend)[kept]
    return score


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = one - one.mean(1, keepdims=True), other - other.mean(1, keepdims=True)
    scale = np.sqrt(np.sum(one**2, 1) * np.sum(other**2, 1))
    return np.sum(one * other, 1) / np.maximum(scale, 1e-6)


def _extent(pictures: np.ndarray, window: _Window, within: tuple[int, int]) -> tuple[int, int] | None:
    """Fit a ramp between two levels to the progress around a window; None when it is no ramp."""
    length = window.last - window.first
    first, last = max(within[0], window.first - length), min(within[1], window.last + length + 1)
    line = pictures[window.last] - pictures[window.first]
    share = (pictures[first:last] - pictures[window.first]) @ line / (line @ line)
    middle = (window.first + window.last) // 2 - first
    time = np.arange(last - first)
    begin, end = (grid.ravel() for grid in np.meshgrid(_grid(-1, middle), _grid(middle + 1, last - first + 1)))
    begin, end = begin[end - begin > 3], end[end - begin > 3]
    ramp = np.clip((time - begin[:, None]) / (end - begin)[:, None], 0, 1)
    ramp -= ramp.mean(1, keepdims=True)
    level = share - share.mean()
    explained = (ramp @ level) ** 2 / np.maximum(np.sum(ramp**2, 1), 1e-6) / max(1e-6, level @ level)
    best = int(np.argmax(explained))
    if explained[best] < LEAST_EXPLAINED:
        return None
    margin = MARGIN * (end[best] - begin[best])
    return max(first, first + math.floor(begin[best] - margin)), min(last, first + math.ceil(end[best] + margin) + 1)


def _grid(first: int, end: int) -> np.ndarray:
    return np.unique(np.linspace(first, end - 1, min(end - first, GRID)).round().astype(int))
