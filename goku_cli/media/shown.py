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

SCALE = 4
"""Tiny clips are enlarged by whole pixels before H.264, whose 16-pixel blocks would smear them."""
SMALL = 256
TENSOR = ".safetensors"
NOTE = "about.json"


def enlarged(frames_THW3: np.ndarray) -> np.ndarray:
    """Return frames, tiny ones enlarged by whole pixels."""
    scale = SCALE if frames_THW3.shape[1] < SMALL else 1
    return frames_THW3.repeat(scale, axis=1).repeat(scale, axis=2)


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
