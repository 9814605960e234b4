"""Pictures as data URIs: the page carries everything it shows."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from goku_cli.errors import GokuError
from goku_cli.media.frames import fit
from goku_cli.media.shown import read_shown

STRIP = 5
STRIP_SIDE = 96


def jpeg_uri(data: bytes) -> str:
    """Return JPEG bytes as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def filmstrip(path: Path) -> str | None:
    """Return up to five frames of a video, or an image, side by side; None when it cannot be read."""
    try:
        frames = read_shown(path)
    except GokuError:
        return None
    size = fit(frames.shape[2], frames.shape[1], STRIP_SIDE)
    places = np.unique(np.linspace(0, len(frames) - 1, STRIP).round().astype(int))
    chosen = [np.asarray(Image.fromarray(frames[i]).resize(size, Image.Resampling.BOX)) for i in places]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(chosen, axis=1)).save(file, format="JPEG", quality=88)
    return jpeg_uri(file.getvalue())
