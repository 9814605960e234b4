"""What each synthetic file shows: a pure function of (seed, index), whatever the number of files."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from goku_cli.shapes.caption import caption, metadata
from goku_cli.shapes.scene import IMAGE_TASKS, PALETTE, SEEN, SHAPES, Scene, draw_scene
from goku_cli.synth.defects import IMAGE_DEFECTS, SHOT_DEFECTS

FPS = 24
VIDEO_SIZE = (480, 864)
IMAGE_SIZES = ((480, 864), (540, 960), (640, 1024))
"""(height, width); all hold the 480p tier."""
FADE_FRAMES = 12
"""Half a second through black: the outgoing frame dims, then the incoming one comes up."""

_SHOT_FRAMES = (48, 53)
_FADE_ODDS = 0.35
_PARAPHRASE_ODDS = 0.3
_VIDEO_ODDS = {"motion": 0.55, "camera": 0.35, "two_motion": 0.10}
_RANKED = sorted(SEEN, key=lambda pair: list(PALETTE).index(pair[0]) + SHAPES.index(pair[1]))
_ZIPF = [1 / (rank + 1) for rank in range(len(_RANKED))]
"""Skewed on purpose, to give balance something to do: the first pair comes 20 times as often as the last."""


@dataclass(frozen=True)
class Shot:
    """One scene on screen for a number of frames; `text` is the caption that comes with it, true or not."""

    scene: Scene
    frames: int
    text: str
    truth: dict[str, Any]
    """Metadata of what is shown."""
    defect: str | None = None
    twin: int | None = None
    """For a near duplicate: the index of the file whose first shot it repeats."""


@dataclass(frozen=True)
class VideoPlan:
    """Shots, and for each join whether it is a fade."""

    shots: tuple[Shot, ...]
    fades: tuple[bool, ...]

    def starts(self) -> list[int]:
        """The first frame of each shot, fades excluded."""
        starts = [0]
        for shot, fade in zip(self.shots, self.fades, strict=False):
            starts.append(starts[-1] + shot.frames + FADE_FRAMES * fade)
        return starts


def plan_video(seed: int, index: int) -> VideoPlan:
    """What video number `index` shows. Its first shot is never defective, so that others can repeat it."""
    rng = np.random.default_rng([seed, 0, index])
    count = int(rng.choice([3, 4, 5], p=[0.35, 0.4, 0.25]))
    defects: list[str | None] = [None] * count
    kinds = _video_defects(index)
    for place, kind in zip(rng.permutation(np.arange(1, count)), kinds, strict=False):
        defects[place] = kind
    shots = tuple(_draw_shot(rng, seed, index, defect) for defect in defects)
    return VideoPlan(shots, tuple(bool(rng.random() < _FADE_ODDS) for _ in shots[1:]))


def plan_image(seed: int, index: int) -> tuple[Shot, tuple[int, int]]:
    """What image number `index` shows, and its (height, width)."""
    rng = np.random.default_rng([seed, 1, index])
    defect = IMAGE_DEFECTS[index // 10 % len(IMAGE_DEFECTS)] if index % 10 == 5 else None
    if defect == "near_duplicate":
        original, size = plan_image(seed, index - 1)
        return replace(original, defect=defect, twin=index - 1), size
    size = IMAGE_SIZES[rng.integers(len(IMAGE_SIZES))]
    scene = _draw_scene(rng, str(rng.choice(IMAGE_TASKS)), 0.0, size[1] / size[0])
    return _shot(rng, scene, 1, defect), size


def _video_defects(index: int) -> tuple[str, ...]:
    # Blocks of six videos: the even ones hold every kind, the odd ones three; one shot in five is bad.
    block, place = divmod(index, 6)
    if block % 2 == 0:
        return SHOT_DEFECTS[place::6]
    return SHOT_DEFECTS[place : place + 1] if (place + block // 2) % 2 == 0 else ()


def _draw_shot(rng: np.random.Generator, seed: int, index: int, defect: str | None) -> Shot:
    if defect == "near_duplicate":
        return replace(plan_video(seed, index - 1).shots[0], defect=defect, twin=index - 1)
    frames = int(rng.integers(*_SHOT_FRAMES))
    task = "single_object" if defect == "static" else str(rng.choice(list(_VIDEO_ODDS), p=[*_VIDEO_ODDS.values()]))
    scene = _draw_scene(rng, task, frames / FPS, VIDEO_SIZE[1] / VIDEO_SIZE[0])
    return _shot(rng, scene, frames, defect)


def _draw_scene(rng: np.random.Generator, task: str, seconds: float, aspect: float) -> Scene:
    return draw_scene(rng, task, seconds=seconds, aspect=aspect, pairs=_RANKED, weights=_ZIPF)


def _shot(rng: np.random.Generator, scene: Scene, frames: int, defect: str | None) -> Shot:
    form = "paraphrase" if rng.random() < _PARAPHRASE_ODDS else "short"
    said = scene
    if defect == "wrong_caption":
        kinds = {(thing.color, thing.shape) for thing in scene.things}
        while {(thing.color, thing.shape) for thing in said.things} & kinds:
            said = _draw_scene(rng, scene.task, frames / FPS if frames > 1 else 0.0, scene.aspect)
    return Shot(scene, frames, caption(said, form), metadata(scene), defect)
