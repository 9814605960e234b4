"""How well shot boundaries are found: films with planted cuts, dissolves, fades and distractors, from real footage.

Usage: python bench/shots.py FOLDER [--films 24] [--half held-out|tuning]

FOLDER holds a few real videos. They are cut into shots at the cuts that every detector sees; one half of the shots
(and of the seeds) is for tuning, the other is held out. A film joins shots, mirrored and cropped at random, and
pans over textures. Prints a markdown table.

A hard cut is found when a boundary, or an edge of a gap that belongs to no clip, lies at most 0 or 1 frames from it;
a dissolve or a fade when a boundary or a gap overlaps it. A boundary that meets nothing planted is a false alarm; the
second cut, of frames a second apart, cuts fast pans too, as it is meant to, so it is scored apart ("shots only").
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from scenedetect import AdaptiveDetector, ContentDetector, HashDetector, HistogramDetector, ThresholdDetector
from scenedetect.common import FrameTimecode
from scenedetect.detector import SceneDetector

from goku_cli.media.ffmpeg import write_video
from goku_cli.media.frames import read_frames
from goku_cli.media.layout import layout
from goku_cli.split.detectors import ShotCuts
from goku_cli.split.measure import Measured, measure
from goku_cli.split.pieces import pieces
from goku_cli.split.settings import SplitSettings

FPS, WIDTH, HEIGHT = 24, 320, 180
LONGEST_SHOT = 90
DISSOLVES = (6, 8, 12, 16, 24, 32, 48)
DISTRACTORS = ("none", "none", "none", "flash", "pan", "shake", "strobe", "step", "zoom")
Span = tuple[int, int]
"""Frames [first, end) of a transition or a gap; a hard cut is empty."""


@dataclass
class Truth:
    """What was planted in one film."""

    hard: list[int] = field(default_factory=list)
    dissolves: list[Span] = field(default_factory=list)
    fades: list[Span] = field(default_factory=list)
    blended: set[int] = field(default_factory=set)
    """Frames of a dissolve in which either picture has more than a twentieth."""


def real_shots(folder: Path) -> list[np.ndarray]:
    """The shots of all videos of a folder, uint8 (frames, 270, 480, 3), without the frames beside their cuts."""
    shots = []
    for path in sorted(folder.glob("*.mp4")):
        found = measure(path, ShotCuts("adaptive", None), layout)
        frames = [_cover(frame, 480, 270) for _, frame in read_frames(path, short_side=360)]
        edges = [0, *found.cuts, len(frames)]
        shots += [np.stack(frames[a + 2 : min(b - 2, a + 160)]) for a, b in itertools.pairwise(edges) if b - a > 40]
    return shots


def _cover(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    scale = max(width / frame.shape[1], height / frame.shape[0])
    large = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return large[top : top + height, left : left + width]


def _texture(rng: np.random.Generator) -> np.ndarray:
    """A picture of many scales, uint8 (540, 960, 3)."""
    image = np.zeros((540, 960, 3), np.float32)
    for cells, strength in ((4, 60), (9, 40), (25, 25), (80, 12)):
        noise = rng.normal(0, strength, (cells, cells * 16 // 9, 3)).astype(np.float32)
        image += cv2.resize(noise, (960, 540), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + rng.uniform(80, 170, 3), 0, 255).astype(np.uint8)


def _shot(whole: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """One shot of `count` frames with a distractor, uint8 (count, HEIGHT, WIDTH, 3); one in four is of a texture."""
    if rng.random() < 0.75:
        begin = rng.integers(max(1, len(whole) - count))
        source = whole[begin : begin + count]
        source = source[:, :, ::-1] if rng.random() < 0.5 else source
        if rng.random() < 0.3:
            source = source[..., rng.permutation(3)]
        source = source[[min(i, 2 * len(source) - 2 - i) % len(source) for i in range(count)]]
    else:
        source = np.broadcast_to(_texture(rng)[None, 135:405, 240:720], (count, 270, 480, 3))
    return np.stack(list(_filmed(source, str(rng.choice(DISTRACTORS)), rng)))


def _filmed(source: np.ndarray, distractor: str, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Look at a shot through a camera that does something which is no cut."""
    count, (x, y), scale = len(source), rng.uniform(0.2, 0.8, 2), rng.uniform(0.7, 0.95)
    lit = np.ones(count)
    middle = int(rng.integers(8, max(9, count - 8)))
    if distractor == "flash":
        lit[middle : middle + rng.integers(1, 4)] = rng.uniform(1.8, 3.0)
    if distractor == "strobe":
        lit[middle - 6 : middle + 6 : 2] = rng.uniform(0.4, 0.7)
    if distractor == "step":
        lit[middle:] = rng.choice([0.7, 1.35])
    for number, frame in enumerate(source):
        left, top, size = x, y, scale
        if distractor == "pan":
            size = 0.6
            left = 0.5 + 0.5 * np.cos(2 * np.pi * number / 72)
        if distractor == "shake":
            left, top = x + rng.normal(0, 0.05), y + rng.normal(0, 0.05)
        if distractor == "zoom":
            size = 0.95 - 0.5 * number / count
        width, height = 480 * size, 270 * size
        corner = np.clip(left, 0, 1) * (480 - width), np.clip(top, 0, 1) * (270 - height)
        warp = np.array([[width / WIDTH, 0, corner[0]], [0, height / HEIGHT, corner[1]]], np.float32)
        seen = cv2.warpAffine(frame, warp, (WIDTH, HEIGHT), flags=cv2.INTER_AREA | cv2.WARP_INVERSE_MAP)
        yield cv2.convertScaleAbs(seen, alpha=lit[number]) if lit[number] != 1 else seen


def film(shots: list[np.ndarray], seed: int) -> tuple[list[np.ndarray], Truth]:
    """Join eight to ten shots, each alone on screen for a second and a half or more."""
    rng, truth = np.random.default_rng(seed), Truth()
    joins = int(rng.integers(7, 10))
    kinds = rng.choice(["hard", "dissolve", "fade"], joins, p=[0.5, 0.3, 0.2])
    lengths = [int(rng.choice(DISSOLVES)) if kind == "dissolve" else 0 for kind in kinds]
    frames: list[np.ndarray] = []
    order = np.concatenate([rng.permutation(len(shots)) for _ in range(joins)])
    order = order[np.append(True, np.diff(order) != 0)]  # no shot follows itself
    for number in range(joins + 1):
        before, after = ([0, *lengths][number], [*lengths, 0][number])
        count = int(rng.integers(36, LONGEST_SHOT)) + before + after
        coming = list(_shot(shots[order[number]], rng, count))
        if number and kinds[number - 1] == "hard":
            truth.hard.append(len(frames))
        elif before:
            _dissolve(frames, coming, before, truth)
            coming = coming[before:]
        elif number:
            begin = len(frames)
            frames += _fade(frames[-1], coming[0], rng)
            truth.fades.append((begin, len(frames)))
        frames += coming
    return frames, truth


def _dissolve(frames: list[np.ndarray], coming: list[np.ndarray], length: int, truth: Truth) -> None:
    first = len(frames) - length
    for step in range(length):
        share = (step + 1) / (length + 1)
        frames[first + step] = cv2.addWeighted(frames[first + step], 1 - share, coming[step], share, 0)
        if 0.05 < share < 0.95:
            truth.blended.add(first + step)
    truth.dissolves.append((first, first + length))


def _fade(before: np.ndarray, after: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Through black or white, with a few even frames between."""
    length, flat, color = int(rng.integers(5, 16)), int(rng.integers(0, 5)), float(rng.choice([0, 0, 255]))
    down = [_toward(before, color, (step + 1) / length) for step in range(length)]
    rise = [_toward(after, color, 1 - step / length) for step in range(length)]
    return [*down, *[np.full_like(before, int(color))] * flat, *rise]


def _toward(frame: np.ndarray, color: float, share: float) -> np.ndarray:
    return cv2.convertScaleAbs(frame, alpha=1 - share, beta=color * share)


@dataclass
class Score:
    """Sums over films."""

    hard: int = 0
    found: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    dissolves: int = 0
    dissolves_found: int = 0
    fades: int = 0
    fades_found: int = 0
    false_alarms: int = 0
    blended: int = 0
    blended_kept: int = 0

    def add(self, truth: Truth, spans: list[Span], kept: set[int]) -> None:
        """Count one film."""
        gradual = truth.dissolves + truth.fades
        for tolerance in self.found:
            free = list(spans)
            for cut in truth.hard:
                near = [s for s in free if min(abs(s[0] - cut), abs(s[1] - cut)) <= tolerance]
                if near:
                    free.remove(near[0])
                    self.found[tolerance] += 1
        meets = [[s for s in spans if s[0] <= last and s[1] >= first] for first, last in gradual]
        hits = {s for cut in truth.hard for s in spans if s[0] - 1 <= cut <= s[1] + 1} | {s for m in meets for s in m}
        self.false_alarms += len(set(spans) - hits)
        self.hard += len(truth.hard)
        self.dissolves += len(truth.dissolves)
        self.fades += len(truth.fades)
        self.dissolves_found += sum(bool(m) for m in meets[: len(truth.dissolves)])
        self.fades_found += sum(bool(m) for m in meets[len(truth.dissolves) :])
        self.blended += len(truth.blended)
        self.blended_kept += len(truth.blended & kept)

    def row(self, name: str) -> str:
        """One line of the table."""
        recall = {t: self.found[t] / self.hard for t in self.found}
        gradual = self.dissolves_found + self.fades_found
        f1 = _f1(gradual, self.dissolves + self.fades, self.false_alarms)
        return (
            f"| {name} | {_f1(self.found[0], self.hard, self.false_alarms):.3f} "
            f"| {_f1(self.found[1], self.hard, self.false_alarms):.3f} | {recall[1]:.3f} "
            f"| {self.dissolves_found / max(1, self.dissolves):.3f} | {self.fades_found / max(1, self.fades):.3f} "
            f"| {f1:.3f} | {self.false_alarms} | {self.blended_kept / max(1, self.blended):.3f} |"
        )


HEADER = (
    "| detector | F1 hard, exact | F1 hard, +-1 | recall hard | recall dissolves | recall fades | F1 gradual "
    "| false alarms | blended frames in clips |\n|---|---|---|---|---|---|---|---|---|"
)


def _f1(found: int, planted: int, false: int) -> float:
    return 2 * found / (planted + found + false)


def ours(found: Measured, settings: SplitSettings) -> tuple[list[Span], set[int]]:
    """The gaps between clips, and the frames that are in one."""
    clips = pieces(found, settings)
    spans = [(a.end, b.first) for a, b in itertools.pairwise(clips)]
    return spans, {number for clip in clips for number in range(clip.first, clip.end)}


def theirs(frames: list[np.ndarray], detector: SceneDetector) -> tuple[list[Span], set[int]]:
    """A PySceneDetect detector alone."""
    cuts: list[FrameTimecode] = []
    for number, frame in enumerate(frames):
        cuts += detector.process_frame(FrameTimecode(number, float(FPS)), frame[..., ::-1])
    cuts += detector.post_process(FrameTimecode(len(frames) - 1, float(FPS)))
    numbers = sorted({cut.frame_num for cut in cuts})
    return [(n, n) for n in numbers], set(range(len(frames)))


DETECTORS: dict[str, tuple[Callable[[float], SceneDetector], float, list[float]]] = {
    "content": (lambda t: ContentDetector(threshold=t), 27.0, [10, 15, 20, 35, 45]),
    "adaptive": (lambda t: AdaptiveDetector(adaptive_threshold=t), 3.0, [1.5, 2, 4, 5]),
    "hash": (lambda t: HashDetector(threshold=t), 0.35, [0.2, 0.25, 0.3, 0.4, 0.45]),
    "histogram": (lambda t: HistogramDetector(threshold=t), 0.20, [0.1, 0.3, 0.4, 0.5]),
    "threshold": (lambda t: ThresholdDetector(threshold=t), 12.0, [6, 20, 40]),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=24)
    parser.add_argument("--half", choices=["held-out", "tuning"], default="held-out")
    parser.add_argument("--ours-only", action="store_true")
    options = parser.parse_args()
    held_out = options.half == "held-out"
    shots = real_shots(options.folder)[held_out::2]
    settings = SplitSettings(min_seconds=0.5, max_seconds=1e9)
    scores: dict[str, Score] = {"goku split": Score(), "goku split, shots only": Score()}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.films):
            frames, truth = film(shots, 1000 * (1 + held_out) + number)
            path = Path(folder) / f"{number}.mp4"
            write_video(path, frames, fps=FPS, crf=20)
            found = measure(path, ShotCuts(settings.detector, settings.threshold), layout)
            scores["goku split"].add(truth, *ours(found, settings))
            scores["goku split, shots only"].add(truth, *ours(found, replace(settings, min_similarity=-1)))
            if options.ours_only:
                continue
            coded = [frame for _, frame in read_frames(path)]
            for name, (make, default, others) in DETECTORS.items():
                for threshold in (default, *others):
                    label = f"{name} {threshold:g}" + (" (default)" if threshold == default else "")
                    scores.setdefault(label, Score()).add(truth, *theirs(coded, make(threshold)))
    whole = scores["goku split"]
    print(
        f"{options.films} films ({options.half}): {whole.hard} hard cuts,"
        f" {whole.dissolves} dissolves, {whole.fades} fades"
    )
    print(HEADER)
    for name, score in scores.items():
        print(score.row(name))


if __name__ == "__main__":
    sys.exit(main())
