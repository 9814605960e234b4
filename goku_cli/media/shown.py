"""Generated clips as files to look at."""

from pathlib import Path

import numpy as np

from goku_cli.media.ffmpeg import write_image, write_video

SCALE = 4
"""Tiny clips are enlarged by whole pixels before H.264, whose 16-pixel blocks would smear them."""
SMALL = 256


def enlarged(frames_THW3: np.ndarray) -> np.ndarray:
    """Return frames, tiny ones enlarged by whole pixels."""
    scale = SCALE if frames_THW3.shape[1] < SMALL else 1
    return frames_THW3.repeat(scale, axis=1).repeat(scale, axis=2)


def write_shown(folder: Path, name: str, frames_THW3: np.ndarray, fps: float) -> Path:
    """Publish frames, uint8 RGB, as folder/name.png when there is one, else as folder/name.mp4; return the path.

    Raises:
        GokuError: ffmpeg failed.
    """
    if len(frames_THW3) == 1:
        path = folder / f"{name}.png"
        write_image(path, frames_THW3[0])
    else:
        path = folder / f"{name}.mp4"
        write_video(path, frames_THW3, fps=fps)
    return path
