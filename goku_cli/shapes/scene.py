"""The moving-shapes world: a few flat shapes on a grey ground, with a camera that may move.

Units: lengths in frame heights, time in seconds, x to the right in [0, aspect], y **down** in [0, 1]; aspect
is width / height. A scene knows nothing of pixels or frame rates, so it is the same picture at every size.

Tasks are GenEval's six (Ghosh et al. 2023, arXiv 2310.11513) and three that need time: one thing that moves,
one resting thing under a moving camera, and two things that move two ways. Held-out pairs test composition as
Okawa et al. 2023 (arXiv 2310.09336) do: every color and every shape is trained, these four pairs are not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

# Hues are at least 40 degrees apart: orange was left out because it lies between red and yellow.
PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "green": (40, 170, 60),
    "blue": (40, 70, 225),
    "yellow": (240, 220, 40),
    "purple": (170, 45, 200),
    "cyan": (50, 210, 225),
}
SHAPES = ("circle", "square", "triangle", "cross")

Pair = tuple[str, str]
PAIRS: tuple[Pair, ...] = tuple((color, shape) for color in PALETTE for shape in SHAPES)
HELD_OUT: tuple[Pair, ...] = (
    ("red", "triangle"),
    ("green", "square"),
    ("blue", "circle"),
    ("yellow", "cross"),
)
SEEN: tuple[Pair, ...] = tuple(pair for pair in PAIRS if pair not in HELD_OUT)

IMAGE_TASKS = ("single_object", "colors", "two_object", "counting", "position", "color_attr")
VIDEO_TASKS = ("motion", "camera", "two_motion")

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
SPEEDS = {"slowly": 0.10, "quickly": 0.30}
"""Heights per second."""
CAMERAS = ("static", "pan left", "pan right", "zoom in", "zoom out")
CAMERA_SPEED = 0.12
"""Heights per second for a pan; growth per second for a zoom."""

RADII = {
    "single_object": (0.20, 0.26),
    "colors": (0.20, 0.26),
    "camera": (0.18, 0.24),
    "motion": (0.13, 0.26),
    "two_object": (0.15, 0.20),
    "color_attr": (0.15, 0.20),
    "position": (0.15, 0.20),
    "two_motion": (0.12, 0.18),
    "counting": (0.12, 0.16),
}
EXTENT = {
    "circle": (1.0, 1.0, 1.0),
    "square": (0.9, 0.9, 0.9),
    "triangle": (1.2 * math.sqrt(3) / 2, 1.2, 0.6),
    "cross": (1.0, 1.0, 1.0),
}
"""(half width, reach up, reach down) of each shape in radii, about its centroid."""

_MARGIN = 0.01
_REACH = 1.25
_TRIES = 5000


@dataclass(frozen=True)
class Thing:
    """One colored shape: centroid (x, y) at time zero, velocity (vx, vy) in heights per second."""

    color: str
    shape: str
    radius: float
    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0


@dataclass(frozen=True)
class Camera:
    """A camera that rests, pans (heights per second) or zooms about its centre (growth per second)."""

    kind: str = "static"
    speed: float = CAMERA_SPEED

    def shift(self, t: float) -> float:
        """How far the camera has moved to the right at time t, in heights."""
        return {"pan left": -1.0, "pan right": 1.0}.get(self.kind, 0.0) * self.speed * t

    def scale(self, t: float) -> float:
        """How much larger the world looks at time t than at time zero."""
        return float((1.0 + self.speed) ** ({"zoom in": 1.0, "zoom out": -1.0}.get(self.kind, 0.0) * t))


@dataclass(frozen=True)
class Scene:
    """What one shot or one image shows."""

    task: str
    things: tuple[Thing, ...]
    aspect: float = 1.8
    camera: Camera = Camera()
    background: float = 0.5
    """Luminance of the ground, 0 to 1."""
    lattice: tuple[float, float] = (0.0, 0.0)
    """Where one dot of the ground's lattice lies, in heights."""

    def seen_at(self, thing: Thing, t: float) -> tuple[float, float, float]:
        """(x, y, radius) of a thing in the frame at time t, in heights, after the camera's movement."""
        scale = self.camera.scale(t)
        x = thing.x + thing.vx * t - self.camera.shift(t) - self.aspect / 2
        y = thing.y + thing.vy * t - 0.5
        return x * scale + self.aspect / 2, y * scale + 0.5, thing.radius * scale


def draw_scene(
    rng: np.random.Generator,
    task: str,
    *,
    seconds: float,
    aspect: float = 1.8,
    pairs: Sequence[Pair] = SEEN,
    weights: Sequence[float] | None = None,
    radii: tuple[float, float] | None = None,
) -> Scene:
    """Draw a scene of a task in which nothing overlaps or leaves the frame for `seconds` (0 for an image).

    `weights` are relative odds of the pairs, so that a world can be skewed on purpose; `radii` are the least and the
    largest radius of a thing, else those of its task. Raises ValueError when
    no such scene was found, which means that the things cannot travel that far inside the frame.
    """
    if task not in RADII:
        raise ValueError(f"unknown task {task!r}; choose one of {', '.join(RADII)}")
    camera = Camera(CAMERAS[rng.integers(1, len(CAMERAS))]) if task == "camera" else Camera()
    empty = draw_empty(rng, task, aspect, camera)
    kinds = _draw_kinds(rng, task, pairs, weights)
    return place_things(rng, empty, kinds, _draw_velocities(rng, task, len(kinds)), seconds, radii=radii)


def draw_empty(rng: np.random.Generator, task: str, aspect: float, camera: Camera) -> Scene:
    """Draw the ground of a scene on which nothing lies yet."""
    background = float(rng.uniform(0.42, 0.58))
    lattice = (float(rng.uniform(0, 1)), float(rng.uniform(0, 1)))
    return Scene(task, (), aspect, camera, background, lattice)


def place_things(
    rng: np.random.Generator, empty: Scene, kinds: Sequence[Pair], velocities: Sequence[tuple[float, float]],
    seconds: float, relation: str | None = None, radii: tuple[float, float] | None = None,
) -> Scene:  # fmt: skip
    """Draw one size and a place for each thing, so that nothing overlaps or leaves the frame for `seconds`.

    `relation` is how the first of two lies to the second; any that has a name will do for a position without one.
    Raises ValueError when no such scene was found.
    """
    wanted = (relation,) if relation else tuple(RELATIONS)
    for _ in range(_TRIES):
        radius = float(rng.uniform(*(radii or RADII[empty.task])))
        things = tuple(
            Thing(color, shape, radius, float(rng.uniform(0, empty.aspect)), float(rng.uniform(0, 1)), vx, vy)
            for (color, shape), (vx, vy) in zip(kinds, velocities, strict=True)
        )
        scene = replace(empty, things=things)
        if _is_clear(scene, seconds) and (empty.task != "position" or relation_of(*things) in wanted):
            return scene
    raise ValueError(f"no {empty.task} scene of {seconds:g} s fits a frame of aspect {empty.aspect:g}: make it shorter")


def direction_of(vx: float, vy: float) -> str:
    """The name of the axis direction nearest to a velocity."""
    return max(DIRECTIONS, key=lambda name: vx * DIRECTIONS[name][0] + vy * DIRECTIONS[name][1])


def speed_of(vx: float, vy: float) -> str:
    """The name of the speed nearest in ratio to a velocity in heights per second."""
    size = max(math.hypot(vx, vy), 1e-9)
    return min(SPEEDS, key=lambda name: abs(math.log(size / SPEEDS[name])))


def relation_of(a: Thing, b: Thing) -> str | None:
    """How a lies to b ("left of" ...), or None when the offset is too diagonal or too short to be named."""
    dx, dy = a.x - b.x, a.y - b.y
    if max(abs(dx), abs(dy)) < 0.3 or min(abs(dx), abs(dy)) > 0.5 * max(abs(dx), abs(dy)):
        return None
    return max(RELATIONS, key=lambda name: dx * RELATIONS[name][0] + dy * RELATIONS[name][1])


def _draw_kinds(
    rng: np.random.Generator, task: str, pairs: Sequence[Pair], weights: Sequence[float] | None
) -> list[Pair]:
    odds = None if weights is None else np.asarray(weights, float) / np.sum(weights)
    first = pairs[rng.choice(len(pairs), p=odds)]
    if task == "counting":
        return [first] * int(rng.integers(2, 5))
    if task not in ("two_object", "color_attr", "position", "two_motion"):
        return [first]
    # Things that share a color or a shape would make "the red one" or "the circle" ambiguous.
    rest = [i for i, (color, shape) in enumerate(pairs) if color != first[0] and shape != first[1]]
    if not rest:
        raise ValueError(f"{task} needs two pairs that differ in color and in shape; got {list(pairs)}")
    odds = None if odds is None else odds[rest] / odds[rest].sum()
    return [first, pairs[rest[rng.choice(len(rest), p=odds)]]]


def _draw_velocities(rng: np.random.Generator, task: str, count: int) -> list[tuple[float, float]]:
    if task not in ("motion", "two_motion"):
        return [(0.0, 0.0)] * count
    names = rng.permutation(list(DIRECTIONS))[:count]
    speed = SPEEDS["slowly"] if task == "two_motion" else SPEEDS[str(rng.choice(list(SPEEDS)))]
    return [(DIRECTIONS[name][0] * speed, DIRECTIONS[name][1] * speed) for name in names]


def _is_clear(scene: Scene, seconds: float) -> bool:
    # Every movement here is monotonous along each axis, so the frame needs checking at the ends only.
    for t in (0.0, seconds):
        for thing in scene.things:
            x, y, radius = scene.seen_at(thing, t)
            half, up, down = (radius * reach for reach in EXTENT[thing.shape])
            if not (half + _MARGIN <= x <= scene.aspect - half - _MARGIN):
                return False
            if not (up + _MARGIN <= y <= 1 - down - _MARGIN):
                return False
    times = np.linspace(0, seconds, 9)
    for i, a in enumerate(scene.things):
        for b in scene.things[i + 1 :]:
            gap = np.hypot(a.x - b.x + (a.vx - b.vx) * times, a.y - b.y + (a.vy - b.vy) * times)
            if gap.min() < _REACH * (a.radius + b.radius):
                return False
    return True
