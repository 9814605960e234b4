"""Self-test of the metrics: clips of the shapes world, degraded in known ways, must move the right figures.

A metric that garbage cannot move measures nothing, and people find out after the training. No manifest is needed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from goku_cli.evaluate.clips import metrics
from goku_cli.evaluate.sets.distribution import distances, features_of
from goku_cli.evaluate.shapes import scores as shapes
from goku_cli.manifest.store import Row
from goku_cli.shapes.caption import Metadata, metadata
from goku_cli.shapes.render import render
from goku_cli.shapes.scene import draw_scene
from goku_cli.stage import Progress

HEIGHT, WIDTH, FPS, FRAMES = 48, 80, 8.0, 9
TASKS = ("motion", "camera", "two_motion")
JUDGED = 6
"""Clips that the clip metrics see."""
COMPARED = 90
"""Clips that the distances see, against twice as many."""
CLEAN = "clean"

Clips = list[np.ndarray]


@dataclass(frozen=True)
class Response:
    """What a metric must do when clips are spoiled: change by at least `by`, up or down."""

    metric: str
    spoiled: str
    by: float

    def wrong(self, clean: float, value: float) -> bool:
        """Say whether it does not."""
        change = value - clean
        return not (change >= self.by if self.by > 0 else change <= self.by)


EXPECTED = (
    Response("video.as_asked", "cropped", -1.0),
    Response("video.flicker", "frozen", 0.001),
    Response("video.flicker", "noisy", -0.05),
    Response("video.moves_dis", "frozen", -0.1),
    Response("video.moves_dis", "shuffled", 0.4),
    Response("video.motion_score", "frozen", -1.0),
    Response("video.acceleration_dis", "shuffled", 4.0),
    Response("video.warp_error_dis", "noisy", 0.02),
    Response("video.sharpness", "blurred", -20.0),
    Response("video.black_share", "black", 1.0),
    Response("video.frozen_share", "frozen", 0.9),
    Response("video.ssim_first", "frozen", 0.1),
    Response("video.ssim_first", "noisy", -0.4),
    Response("shapes.strict", "mismatched", -0.9),
    Response("shapes.strict", "black", -0.9),
    Response("shapes.motion", "frozen", -0.9),
    Response("shapes.motion", "shuffled", -0.5),
    Response("distance.appearance_fd", "blurred", 0.002),
    Response("distance.appearance_fd", "noisy", 0.05),
    Response("distance.motion_fd", "frozen", 0.2),
    Response("distance.motion_fd", "shuffled", 2.0),
)


@dataclass(frozen=True)
class Tested:
    """A table of metrics by how the clips were spoiled, and what is wrong with it."""

    columns: list[str]
    lines: list[list[float | str]]
    wrong: list[str]


def selftest(
    names: Sequence[str], progress: Progress, *, expected: Sequence[Response] = EXPECTED, compared: int = COMPARED
) -> Tested:
    """Spoil clips in every way and measure them; `compared` 0 leaves the distances out.

    Args:
        names: clip metrics; a user's own is shown, and nothing is expected of it.

    Raises:
        UsageError: an unknown metric.
    """
    progress.start("selftest", len(SPOILED) + (compared > 0))
    judged = scenes(0, JUDGED)
    real = _features(scenes(1, 2 * compared)) if compared else {}
    progress.advance(compared > 0)
    values: dict[str, dict[str, float]] = {}
    for spoiled, spoil in SPOILED.items():
        found = _clip_scores(names, judged, spoil, spoiled)
        if compared and spoiled in DISTANT:
            ours = _features(scenes(2, compared), spoil)
            found |= {f.metric: f.value for f in distances(ours, real) if f.tag == "all"}
        for metric, value in found.items():
            values.setdefault(metric, {})[spoiled] = value
        progress.advance()
    lines: list[list[float | str]] = [[m, *(row.get(name, "") for name in SPOILED)] for m, row in values.items()]
    return Tested(["metric", *SPOILED], lines, list(_wrong(expected, values)))


def scenes(seed: int, count: int) -> list[tuple[np.ndarray, Metadata]]:
    """Return clips (T, H, W, 3) uint8 of the tasks in turn, with what they show."""
    rng = np.random.default_rng(seed)
    drawn = [draw_scene(rng, TASKS[i % len(TASKS)], seconds=FRAMES / FPS, aspect=WIDTH / HEIGHT) for i in range(count)]
    return [(render(one, height=HEIGHT, width=WIDTH, fps=FPS, frames=FRAMES), metadata(one)) for one in drawn]


def _clip_scores(
    names: Sequence[str], judged: list[tuple[np.ndarray, Metadata]], spoil: Callable[[np.ndarray], np.ndarray],
    spoiled: str,
) -> dict[str, float]:  # fmt: skip
    """Return the mean of every clip metric, and of the detector's verdicts."""
    row: Row = {"frames": FRAMES, "height": HEIGHT, "width": WIDTH, "fps": FPS, "prompt": ""}
    found: dict[str, list[float]] = {}
    others = shapes.controls([asked for _, asked in judged])
    for (frames, asked), other in zip(judged, others, strict=True):
        scores = metrics.scores(names, spoil(frames), row)
        wanted = other if spoiled == "mismatched" else asked
        scores |= shapes.score_sample(spoil(frames), wanted, None, FPS) if wanted else {}
        for metric, value in scores.items():
            if value is not None:
                found.setdefault(metric, []).append(value)
    return {metric: float(np.mean(values)) for metric, values in found.items()}


def _features(
    clips: list[tuple[np.ndarray, Metadata]], spoil: Callable[[np.ndarray], np.ndarray] = lambda frames: frames
) -> dict[str, np.ndarray]:
    found = [features_of(spoil(frames)) for frames, _ in clips]
    return {kind: np.stack([one[kind] for one in found]) for kind in found[0]}


def _wrong(expected: Sequence[Response], values: dict[str, dict[str, float]]) -> Iterator[str]:
    for response in expected:
        row = values.get(response.metric, {})
        if response.spoiled in row and response.wrong(row[CLEAN], row[response.spoiled]):
            change = f"from {row[CLEAN]:.4g} to {row[response.spoiled]:.4g}"
            yield f"{response.metric} went {change} on {response.spoiled} clips, not by {response.by:+g}"


def _shuffled(frames: np.ndarray) -> np.ndarray:
    return frames[np.random.default_rng(0).permutation(len(frames))]


def _noisy(frames: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 30, frames.shape)
    return (frames + noise).clip(0, 255).astype(np.uint8)


SPOILED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    CLEAN: lambda frames: frames,
    "frozen": lambda frames: np.repeat(frames[:1], len(frames), 0),
    "shuffled": _shuffled,
    "blurred": lambda frames: np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in frames]),
    "noisy": _noisy,
    "black": np.zeros_like,
    "cropped": lambda frames: np.ascontiguousarray(frames[:, : HEIGHT // 2]),
    "mismatched": lambda frames: frames,
}
DISTANT = (CLEAN, "frozen", "shuffled", "blurred", "noisy")
"""Ways that the distances are tried on; the others tell them nothing new."""
