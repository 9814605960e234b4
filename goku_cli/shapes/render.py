"""Draw a scene as pixels from signed distances, so that every output size shows the same picture."""

from collections.abc import Iterator

import cv2
import numpy as np

from goku_cli.shapes.scene import EXTENT, PALETTE, Scene

DOT_SPACING = 0.25
DOT_SIGMA = 0.03
DOT_CONTRAST = 0.13
"""Spacing and softness (heights) and brightness (0 to 1) of the ground's dots: they show a moving camera."""

SQUARE_HALF = EXTENT["square"][0]
TRIANGLE_INRADIUS = EXTENT["triangle"][2]
CROSS_ARM = 0.36
"""Half the thickness of a cross's arms, in radii."""


def render(scene: Scene, *, height: int, width: int, fps: float, frames: int, start: float = 0.0) -> np.ndarray:
    """The clip of a scene from time `start` on: uint8 RGB (T, H, W, 3)."""
    return np.stack(list(iter_frames(scene, height=height, width=width, fps=fps, frames=frames, start=start)))


def iter_frames(
    scene: Scene, *, height: int, width: int, fps: float, frames: int, start: float = 0.0
) -> Iterator[np.ndarray]:
    """The same frames one at a time, each uint8 RGB (H, W, 3), for clips too long to hold."""
    for index in range(frames):
        yield _frame(scene, start + index / fps, height, width)


def distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance from points (x, y), in radii about the centroid, to a shape of radius 1; inside < 0.

    Corners are mitred rather than round outside, which an antialiased edge of one pixel cannot show.
    """
    if shape == "circle":
        return np.hypot(x, y) - 1.0
    if shape == "square":
        return np.maximum(abs(x), abs(y)) - SQUARE_HALF
    if shape == "triangle":
        slanted = abs(x) * (np.sqrt(3) / 2) - y * 0.5
        return np.maximum(slanted, y) - TRIANGLE_INRADIUS
    if shape == "cross":
        wide = np.maximum(abs(x) - 1.0, abs(y) - CROSS_ARM)
        tall = np.maximum(abs(x) - CROSS_ARM, abs(y) - 1.0)
        return np.minimum(wide, tall)
    raise ValueError(f"unknown shape {shape!r}")


def coverage(shape: str, height: int, width: int, x: float, y: float, radius: float) -> np.ndarray:
    """How much of each pixel (H, W) a shape covers, 0 to 1; x, y and radius are pixels from the top left."""
    columns = (np.arange(width, dtype=np.float32) + 0.5 - x) / radius
    rows = (np.arange(height, dtype=np.float32) + 0.5 - y) / radius
    inside = distance(shape, columns[None, :], rows[:, None])
    return np.clip(0.5 - inside * radius, 0.0, 1.0)


def _frame(scene: Scene, t: float, height: int, width: int) -> np.ndarray:
    ground = _ground(scene, t, height, width)
    frame = cv2.cvtColor(np.rint(ground).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    for thing in scene.things:
        x, y, radius = (value * height for value in scene.seen_at(thing, t))
        reach = 1.25 * radius + 2
        left, right = max(int(x - reach), 0), min(int(x + reach) + 1, width)
        top, bottom = max(int(y - reach), 0), min(int(y + reach) + 1, height)
        if left >= right or top >= bottom:
            continue
        alpha = coverage(thing.shape, bottom - top, right - left, x - left, y - top, radius)[..., None]
        patch = ground[top:bottom, left:right, None]
        color = np.asarray(PALETTE[thing.color], np.float32)
        frame[top:bottom, left:right] = np.rint(patch + alpha * (color - patch)).astype(np.uint8)
    return frame


def _ground(scene: Scene, t: float, height: int, width: int) -> np.ndarray:
    # A Gaussian dot is a product of one function of x and one of y, so the lattice is one outer product.
    scale, shift = scene.camera.scale(t), scene.camera.shift(t)
    x = ((np.arange(width) + 0.5) / height - scene.aspect / 2) / scale + scene.aspect / 2 + shift
    y = ((np.arange(height) + 0.5) / height - 0.5) / scale + 0.5
    bump_x, bump_y = (_bump(axis - offset) for axis, offset in zip((x, y), scene.lattice, strict=True))
    return 255 * (scene.background + DOT_CONTRAST * np.outer(bump_y, bump_x)).astype(np.float32)


def _bump(position: np.ndarray) -> np.ndarray:
    nearest = (position + DOT_SPACING / 2) % DOT_SPACING - DOT_SPACING / 2
    return np.exp(-0.5 * (nearest / DOT_SIGMA) ** 2).astype(np.float32)
