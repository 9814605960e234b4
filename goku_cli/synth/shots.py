"""Contents of each synthetic file: a pure function of (seed, index), whatever the number of files."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from goku_cli.errors import UsageError
from goku_cli.registry import nearest
from goku_cli.shapes.caption import caption, metadata
from goku_cli.shapes.scene import IMAGE_TASKS, PALETTE, SEEN, SHAPES, VIDEO_TASKS, Scene, draw_scene
from goku_cli.synth.defects import IMAGE_DEFECTS, SHOT_DEFECTS

FPS = 24
VIDEO_SIZE = (480, 864)
IMAGE_SIZES = ((480, 864), (540, 960), (640, 1024))
"""(height, width); all hold the 480p tier."""
FADE_FRAMES = 12
"""Half a second through black: the outgoing frame dims, then the incoming one comes up."""

SHOT_SPREAD = 5
MOST_SECONDS = 10.0
MOST_RADIUS = 0.3
"""What the detector still takes for a thing is a little less."""
_FADE_ODDS = 0.35
_PARAPHRASE_ODDS = 0.3
_VIDEO_ODDS = {"motion": 0.55, "camera": 0.35, "two_motion": 0.10}
_RANKED = sorted(SEEN, key=lambda pair: list(PALETTE).index(pair[0]) + SHAPES.index(pair[1]))
_ZIPF = [1 / (rank + 1) for rank in range(len(_RANKED))]
"""Skewed on purpose, to give balance something to do: the first pair comes 20 times as often as the last."""


Radius = tuple[float, float] | None


@dataclass(frozen=True)
class World:
    """Which part of the shapes world a collection shows.

    Raises:
        UsageError: an unknown task or none, or a radius or a length of shots that cannot be.
    """

    tasks: tuple[str, ...] = IMAGE_TASKS + VIDEO_TASKS
    """Of images and of videos."""
    size: tuple[int, int] | None = None
    """(height, width) of every file; None: videos of 480x864, images of three sizes."""
    radius: Radius = None
    """Least and largest radius of a thing, in heights; None: by task, from 0.12 to 0.26."""
    seconds: float = 2.0
    """Least length of a shot; in shorter ones things need less room to move. Videos stay as long: they get more."""

    def __post_init__(self) -> None:
        known = IMAGE_TASKS + VIDEO_TASKS
        for task in self.tasks:
            if task not in known:
                raise UsageError(f'unknown task "{task}"{nearest(task, list(known))}; known: {", ".join(known)}')
        if not self.tasks:
            raise UsageError(f"a world needs at least one task of: {', '.join(known)}")
        if self.radius and not 0 < self.radius[0] <= self.radius[1] < MOST_RADIUS:
            raise UsageError(f"a radius is a share of the frame's height below {MOST_RADIUS}, the least first, "
                             f"not {self.radius[0]:g},{self.radius[1]:g}")  # fmt: skip
        if not 1 <= self.seconds <= MOST_SECONDS:
            raise UsageError(f"a shot lasts from 1 to {MOST_SECONDS:g} seconds, not {self.seconds:g}")

    @property
    def video_size(self) -> tuple[int, int]:
        """(height, width) of its videos."""
        return self.size or VIDEO_SIZE

    @property
    def shot_frames(self) -> tuple[int, int]:
        """Least and, excluded, most frames of a shot."""
        least = round(self.seconds * FPS)
        return least, least + SHOT_SPREAD

    @property
    def shot_counts(self) -> list[int]:
        """How many shots a video may have: as many as last longer than the four seconds of the paper's rule."""
        more = math.ceil(World.seconds / self.seconds)
        return [count * more for count in (3, 4, 5)]

    @property
    def image_tasks(self) -> list[str]:
        """Tasks of still images; where only tasks of videos were named, images show a single object."""
        return [task for task in IMAGE_TASKS if task in self.tasks] or ["single_object"]

    @property
    def video_odds(self) -> dict[str, float]:
        """How often each task of videos comes; where only tasks of images were named, videos show a resting object."""
        odds = {task: share for task, share in _VIDEO_ODDS.items() if task in self.tasks} or {"single_object": 1.0}
        return {task: share / sum(odds.values()) for task, share in odds.items()}


WHOLE = World()


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


def plan_video(seed: int, index: int, world: World = WHOLE) -> VideoPlan:
    """What video number `index` shows. Its first shot is never defective, so that others can repeat it."""
    rng = np.random.default_rng([seed, 0, index])
    count = int(rng.choice(world.shot_counts, p=[0.35, 0.4, 0.25]))
    defects: list[str | None] = [None] * count
    kinds = _video_defects(index)
    for place, kind in zip(rng.permutation(np.arange(1, count)), kinds, strict=False):
        defects[place] = kind
    shots = tuple(_draw_shot(rng, seed, index, defect, world) for defect in defects)
    return VideoPlan(shots, tuple(bool(rng.random() < _FADE_ODDS) for _ in shots[1:]))


def plan_image(seed: int, index: int, world: World = WHOLE) -> tuple[Shot, tuple[int, int]]:
    """What image number `index` shows, and its (height, width)."""
    rng = np.random.default_rng([seed, 1, index])
    defect = IMAGE_DEFECTS[index // 10 % len(IMAGE_DEFECTS)] if index % 10 == 5 else None
    if defect == "near_duplicate":
        original, size = plan_image(seed, index - 1, world)
        return replace(original, defect=defect, twin=index - 1), size
    sizes = IMAGE_SIZES if world.size is None else (world.size,)
    size = sizes[rng.integers(len(sizes))]
    scene = _draw_scene(rng, str(rng.choice(world.image_tasks)), 0.0, size[1] / size[0], world.radius)
    return _shot(rng, scene, 1, defect, world.radius), size


def _video_defects(index: int) -> tuple[str, ...]:
    # Blocks of six videos: the even ones hold every kind, the odd ones three; one shot in five is bad.
    block, place = divmod(index, 6)
    if block % 2 == 0:
        return SHOT_DEFECTS[place::6]
    return SHOT_DEFECTS[place : place + 1] if (place + block // 2) % 2 == 0 else ()


def _draw_shot(rng: np.random.Generator, seed: int, index: int, defect: str | None, world: World) -> Shot:
    if defect == "near_duplicate":
        return replace(plan_video(seed, index - 1, world).shots[0], defect=defect, twin=index - 1)
    frames = int(rng.integers(*world.shot_frames))
    odds, (height, width) = world.video_odds, world.video_size
    task = "single_object" if defect == "static" else str(rng.choice(list(odds), p=[*odds.values()]))
    scene = _draw_scene(rng, task, frames / FPS, width / height, world.radius)
    return _shot(rng, scene, frames, defect, world.radius)


def _draw_scene(rng: np.random.Generator, task: str, seconds: float, aspect: float, radius: Radius) -> Scene:
    try:
        return draw_scene(rng, task, seconds=seconds, aspect=aspect, pairs=_RANKED, weights=_ZIPF, radii=radius)
    except ValueError as error:
        raise UsageError(f"{error}, or its things smaller") from error


def _shot(rng: np.random.Generator, scene: Scene, frames: int, defect: str | None, radius: Radius) -> Shot:
    form = "paraphrase" if rng.random() < _PARAPHRASE_ODDS else "short"
    said = scene
    if defect == "wrong_caption":
        kinds = {(thing.color, thing.shape) for thing in scene.things}
        while {(thing.color, thing.shape) for thing in said.things} & kinds:
            said = _draw_scene(rng, scene.task, frames / FPS if frames > 1 else 0.0, scene.aspect, radius)
    return Shot(scene, frames, caption(said, form), metadata(scene), defect)
