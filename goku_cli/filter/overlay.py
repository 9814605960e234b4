"""Logos and watermarks, without a model: edges that stay put while the picture around them moves."""

import cv2
import numpy as np

from goku_cli.filter.sampled import SampledClip

FRAMES = 16
STRONG = 60.0
"""Length of a gradient (Sobel, of luma) that is an edge."""
ALWAYS = 0.9
"""Share of the frames in which an edge must be there, pointing the same way, to be one that stays."""
MOVING = 12.0
"""Standard deviation over time of the luma around an overlay: the scene goes on behind it. Where that stands still too,
an overlay cannot be told from the scene."""
JOIN = 9
"""Pixels between edges of one overlay."""
ALIVE = 0.5
"""Share of the pixels around an overlay that must be moving."""
LEAST_EDGES = 40
LONGEST = 0.9
"""What runs along nearly a whole side is the border of a bar."""


def overlay(clip: SampledClip) -> float:
    """Area of the largest thing that stays put, as a share of the frame; 0 where nothing moves around it."""
    greys = clip.grey[:: max(1, len(clip.grey) // FRAMES)]
    if len(greys) < 4:
        return 0.0
    stays = _staying(greys)
    moving = np.std(np.stack(greys), axis=0) > MOVING
    return max(_areas(stays, moving), default=0.0) / stays.size


def _staying(greys: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return where an edge stays, (H, W) bool."""
    there = np.zeros(greys[0].shape, np.float32)
    total, length = np.zeros((*greys[0].shape, 2), np.float32), np.zeros(greys[0].shape, np.float32)
    for grey in greys:
        gradient = np.stack([cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)], axis=-1)
        strength = np.linalg.norm(gradient, axis=2)
        there += strength > STRONG
        total += gradient
        length += strength
    same_way = np.linalg.norm(total, axis=2) > ALWAYS * np.maximum(length, 1.0)
    return (there >= ALWAYS * len(greys)) & same_way


def _areas(stays: np.ndarray, moving: np.ndarray) -> list[float]:
    """Return the area of the box around each group of edges with a moving scene around them."""
    joined = cv2.dilate(stays.astype(np.uint8), np.ones((JOIN, JOIN), np.uint8))
    number, labels, boxes, _ = cv2.connectedComponentsWithStats(joined)
    edges = np.bincount(labels[stays], minlength=number)
    around = cv2.dilate(stays.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    ring = np.maximum(np.bincount(labels[around], minlength=number), 1)
    alive = np.bincount(labels[around & moving], minlength=number) / ring > ALIVE
    height, width = stays.shape
    return [
        float(wide * tall)
        for (_, _, wide, tall, _), count, lives in zip(boxes[1:], edges[1:], alive[1:], strict=True)
        if lives and count >= LEAST_EDGES and wide < LONGEST * width and tall < LONGEST * height
    ]
