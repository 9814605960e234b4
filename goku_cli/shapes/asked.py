"""A real scene of what a prompt asks for: what a model's clip of that prompt is held against."""

import numpy as np

from goku_cli.shapes.caption import Metadata
from goku_cli.shapes.scene import DIRECTIONS, PALETTE, SPEEDS, Camera, Scene, draw_empty, place_things


def scene_of(metadata: Metadata, rng: np.random.Generator, *, seconds: float, aspect: float = 1.8) -> Scene:
    """Draw a scene that shows what metadata asks for; what they leave open, places and colors, is drawn.

    Raises ValueError when the things cannot travel for `seconds` inside the frame, or not all lie in it.
    """
    entries = metadata["include"]
    relation = None
    if placed := [entry for entry in entries if "position" in entry]:
        relation, landmark = placed[0]["position"]
        entries = [placed[0], entries[landmark]]  # the landmark stands first in metadata, and last in a scene
    colors = rng.permutation(list(PALETTE))  # no two alike, which would make "the red one" ambiguous
    kinds, velocities = [], []
    for entry, color in zip(entries, colors, strict=False):
        dx, dy = DIRECTIONS.get(entry.get("motion", ""), (0, 0))
        speed = SPEEDS[entry.get("speed", "slowly")]
        kinds += [(entry.get("color", str(color)), entry["class"])] * entry["count"]
        velocities += [(dx * speed, dy * speed)] * entry["count"]
    empty = draw_empty(rng, metadata["tag"], aspect, Camera(metadata.get("camera", "static")))
    return place_things(rng, empty, kinds, velocities, seconds, relation)
