"""Pictures and clips as data URIs: the page carries everything it shows, and plays it without a script.

A clip is an animated WebP in an <img>. It plays by itself in a loop in every browser, without controls and without a
second content type in the page's policy, keeps the colors of thin edges that H.264 halves, and a toy clip of 9 frames
of 48x80 takes 5 kB without loss. It is stored at the size in which it was drawn and enlarged by the browser, by whole
pixels and without blur. Who asked the system for less motion sees its middle frame. A large clip is made smaller
until it fits: 480p and 97 frames become at most 320 pixels, every second frame, and about half a megabyte.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from goku_cli.errors import GokuError
from goku_cli.media.sample_files import as_drawn, read_shown

SIDE = 320
"""Pixels of the page that the longer side of a clip takes at most."""
ENLARGED = 160
"""The same of a clip that is drawn smaller than that: a tiny one is not worth a screen."""
FRAMES = 49
"""Frames of a clip at most; of more, every second, third ... is shown, for as long."""
BYTES = 1 << 19
"""Above this a clip is made smaller, twice at most."""
EXACT = 160
"""Pixels of the longer side up to which nothing is lost, when that fits."""
QUALITY = 75
FPS = 8.0
"""Of a clip that does not say."""


@dataclass(frozen=True)
class Player:
    """A clip or an image, ready to be shown."""

    source: str
    """Data URI of the WebP."""
    still: str
    """The middle frame of a clip, as another; empty for an image."""
    width: int
    height: int
    """In pixels of the page."""
    sharp: bool
    """Whether the pixels that were drawn are shown as squares."""


def jpeg_uri(data: bytes) -> str:
    """Return JPEG bytes as a data URI."""
    return _uri("image/jpeg", data)


def player(path: Path, fps: float | None, side: int = SIDE) -> Player | None:
    """Return a sample as a page plays it, at most `side` pixels wide and high; None when it cannot be read."""
    try:
        frames = as_drawn(read_shown(path))
    except GokuError:
        return None
    every = -(-len(frames) // FRAMES)
    images = [Image.fromarray(frame) for frame in frames[::every]]
    milliseconds = round(1000 * every / (fps or FPS))
    steps = [(max(images[0].size), True)] if max(images[0].size) <= min(EXACT, side) else []
    for most, exact in [*steps, (side, False), (side * 2 // 3, False), (side // 2, False)]:
        for image in images:
            image.thumbnail((most, most), Image.Resampling.BOX)
        data = _webp(images, milliseconds, exact)
        if len(data) <= BYTES:
            break
    width, height = images[0].size
    whole = (height, width) == frames.shape[1:3]
    scale = max(1, (min(side, ENLARGED) if whole else side) // max(width, height))
    still = _uri("image/webp", _webp(images[len(images) // 2 :][:1], 0, exact)) if len(images) > 1 else ""
    sharp = whole and scale > 1
    return Player(_uri("image/webp", data), still, scale * width, scale * height, sharp)


def _webp(images: list[Image.Image], milliseconds: int, exact: bool) -> bytes:
    file = io.BytesIO()
    first, *others = images
    first.save(
        file,
        "WEBP",
        lossless=exact,
        quality=QUALITY,
        save_all=True,
        append_images=others,
        duration=milliseconds,
        loop=0,
    )
    return file.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
