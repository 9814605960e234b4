"""Generated clips as files to look at, each with a note in it that says how it was made."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from goku_cli.errors import Cause, Fault
from goku_cli.media.ffmpeg import write_image, write_video
from goku_cli.media.frames import read_frames
from goku_cli.publish import publish, publish_folder
from goku_cli.sizes import MULTIPLE

SCALE = 4
"""Tiny clips are enlarged by whole pixels before H.264, whose 16-pixel blocks would smear them."""
SMALL = 256
ALIKE = 3
"""Within enlarged pixels, neighbors differ so many times less than between them, whatever H.264 did to them."""
TENSOR = ".safetensors"
NOTE = "about.json"


def enlarged(frames_THW3: np.ndarray) -> np.ndarray:
    """Return frames, tiny ones enlarged by whole pixels."""
    scale = SCALE if frames_THW3.shape[1] < SMALL else 1
    return frames_THW3.repeat(scale, axis=1).repeat(scale, axis=2)


def as_drawn(frames_THW3: np.ndarray) -> np.ndarray:
    """Undo `enlarged`: return the frames (T, H, W, 3) uint8 that it was given, but for what H.264 changed.

    Frames of which squares of pixels are not alike were not enlarged, and stay as they are.
    """
    t, height, width, _ = frames_THW3.shape
    small = SCALE * MULTIPLE
    if height % small or width % small or height // SCALE >= SMALL or not _squares(frames_THW3[:: max(1, t // 4)]):
        return frames_THW3
    squares = frames_THW3.reshape(t, height // SCALE, SCALE, width // SCALE, SCALE, 3)
    return np.rint(squares.mean((2, 4))).astype(np.uint8)


def _squares(frames_THW3: np.ndarray) -> bool:
    """Say whether squares of SCALE x SCALE pixels are each of about one color."""
    within = between = 0.0
    for axis in (1, 2):
        steps = np.abs(np.diff(frames_THW3.astype(np.int16), axis=axis)).mean((0, 3 - axis, 3))
        edges = np.arange(1, len(steps) + 1) % SCALE == 0
        within, between = within + float(steps[~edges].mean()), between + float(steps[edges].mean())
    return ALIKE * within <= between


def write_shown(
    folder: Path, name: str, frames_THW3: np.ndarray, fps: float, *, form: str = "mp4", about: str = "",
    latent_CTHW: np.ndarray | None = None,
) -> Path:  # fmt: skip
    """Publish frames, uint8 RGB, as folder/name with the suffix of their form; return the path.

    Args:
        form: mp4, gif, frames (a folder of PNGs) or tensor (safetensors with the latent beside the frames). One frame
            alone is a PNG, but for tensor.
        about: a note that the file carries: the comment of an MP4 or GIF, a text chunk of a PNG.

    Raises:
        GokuError: ffmpeg failed.
    """
    if form == "tensor":
        path = folder / f"{name}{TENSOR}"
        tensors = {"frames": frames_THW3} | ({} if latent_CTHW is None else {"latent": latent_CTHW})
        with publish(path) as temporary:
            save_file({key: np.ascontiguousarray(x) for key, x in tensors.items()}, temporary, {"about": about})
    elif len(frames_THW3) == 1:
        path = folder / f"{name}.png"
        write_image(path, frames_THW3[0], about)
    elif form == "frames":
        path = folder / name
        shutil.rmtree(path, ignore_errors=True)
        with publish_folder(path) as temporary:
            for i, frame in enumerate(frames_THW3):
                Image.fromarray(frame).save(temporary / f"{i:04d}.png")
            (temporary / NOTE).write_text(about + "\n")
    elif form == "gif":
        path = folder / f"{name}.gif"
        first, *others = [Image.fromarray(frame) for frame in frames_THW3]
        with publish(path) as temporary:
            first.save(temporary, save_all=True, append_images=others, duration=1000 / fps, loop=0, comment=about)
    else:
        path = folder / f"{name}.mp4"
        write_video(path, frames_THW3, fps=fps, comment=about)
    return path


def read_shown(path: Path) -> np.ndarray:
    """Return the frames (T, H, W, 3) uint8 of a file or folder that `write_shown` wrote.

    Raises:
        Fault: it is gone, or cannot be read.
    """
    try:
        if path.suffix == TENSOR:
            return np.asarray(load_file(path)["frames"])
        files = sorted(path.glob("*.png")) if path.is_dir() else [path]
        return np.stack([frame for file in files for _, frame in read_frames(file)])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise Fault(Cause.UNREADABLE, f"{path}: {error}") from error


def read_about(path: Path) -> dict[str, object]:
    """Return the note of a PNG, a GIF, a folder of frames or a tensor file; an MP4's is its comment (ffprobe)."""
    if path.suffix == TENSOR:
        with safe_open(path, "np") as file:
            text = (file.metadata() or {}).get("about", "")
    elif path.is_dir():
        text = (path / NOTE).read_text()
    else:
        with Image.open(path) as image:
            said = image.info.get("goku") or image.info.get("comment", "")
            text = said.decode() if isinstance(said, bytes) else said
    return dict(json.loads(text))
