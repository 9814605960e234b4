"""One decode of a source, and everything that splitting needs from it."""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import imagehash
import numpy as np
from PIL import Image

from goku_cli.errors import Fault
from goku_cli.media.decode import Shown, open_decoding
from goku_cli.media.fast_resize import shrink
from goku_cli.media.layout import cells
from goku_cli.media.orientation import orientation_of
from goku_cli.split.detectors import ShotCuts

SHORT_SIDE = 144
"""Of the pictures that are looked at; PySceneDetect shrinks to about this size too."""
SAMPLE_US = 500_000
STANDS_US = 1_500_000
"""A frame that stands so long is a still picture, as good as many frames; below it, footage of one frame a second moves
too much between them to tell that from a cut."""
THUMBNAIL_WIDTH = 160
HASHED = 32
"""Side of the gray picture that is kept of every frame."""


@dataclass(frozen=True)
class Sample:
    """A frame of twice a second."""

    number: int
    thumbnail: bytes
    """JPEG."""
    feature: np.ndarray | None
    """Of one a second: the second cut compares those."""


@dataclass(frozen=True)
class Measured:
    """What one pass over a source found; the arrays have an entry per frame (1.2 kB in all)."""

    times_us: np.ndarray
    luma: np.ndarray
    contrast: np.ndarray
    gray: np.ndarray
    """uint8 (N, 32, 32), from which perceptual hashes are taken."""
    colors: np.ndarray
    """uint8 (N, 8, 8, 3) Lab: two scenes of one brightness pattern can have the same hash."""
    cuts: list[int]
    """Numbers of the frames that the detector says open a shot."""
    breaks: dict[int, str]
    """Numbers of the frames that do not go on from the one before -> damage, size or gap."""
    sizes: dict[int, tuple[int, int]]
    """Number of the first frame of each size -> (width, height) as displayed."""
    samples: list[Sample]
    lost: Fault | None
    """What did not decode."""
    lasting_us: int = 0
    """How long the first frame stands by its own word."""
    rest_us: int = 0
    """How long the last frame of an animation stands by its own word."""
    longest_us: int = sys.maxsize
    """What no frame stands longer than."""

    @cached_property
    def ends_us(self) -> np.ndarray:
        """When each frame goes from the screen; the last one, and one before a hole or a gap, stay as long as those
        before; a film's only one, and the last one of an animation, as long as they say."""
        ends = np.append(self.times_us[1:], self.times_us[-1])
        for number in [first for first, why in self.breaks.items() if why in ("damage", "gap")] + [len(ends)]:
            last = number - 1
            step = self.times_us[last] - self.times_us[last - 1] if last else self.lasting_us
            step = self.rest_us if self.rest_us and number == len(ends) else step
            ends[last] = self.times_us[last] + min(step, self.longest_us)
        return ends

    def parted(self, longest_us: int) -> "Measured":
        """Return the same with a break behind every frame that stands longer than a clip may: a gap in time."""
        gaps = (np.flatnonzero(np.diff(self.times_us) > longest_us) + 1).tolist()
        return replace(self, breaks=dict.fromkeys(gaps, "gap") | self.breaks, longest_us=longest_us)

    def size(self, number: int) -> tuple[int, int]:
        """Return a frame's width and height as displayed."""
        return self.sizes[max(first for first in self.sizes if first <= number)]


def measure(
    path: Path, cuts: ShotCuts, feature: Callable[[np.ndarray], np.ndarray], threads: int = 1,
    fields: str | None = None,
) -> Measured:  # fmt: skip
    """Look at every frame once: feed the detector, note brightness, and sample twice a second.

    Raises:
        Fault: nothing of it can be read.
    """
    times: list[int] = []
    luma, contrast, gray, colors = [], [], [], []
    samples: list[Sample] = []
    breaks: dict[int, str] = {}
    sizes: dict[int, tuple[int, int]] = {}
    lasting_us, stood, tick, featured = 0, False, -1, -2
    with open_decoding(path, threads, smooth=False, fields=fields) as decoding:
        sar = float(decoding.stream.sample_aspect_ratio or 1) or 1.0
        for number, shown in enumerate(decoding.frames()):
            frame = shrink(shown.frame, sar, SHORT_SIDE)
            if not number:
                lasting_us = shown.lasting_us
            if shown.opens:
                breaks[number] = shown.opens
            if not number or shown.opens == "size":
                sizes[number] = _displayed(shown, sar)
            stood = number > 0 and shown.time_us - times[-1] >= STANDS_US
            cuts.feed(number, frame, afresh=shown.opens is not None, stood=stood)
            whole = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            mean, deviation = cv2.meanStdDev(whole)
            times.append(shown.time_us)
            luma.append(float(mean[0, 0]))
            contrast.append(float(deviation[0, 0]))
            gray.append(_square(whole))
            colors.append(cells(frame))
            if shown.time_us // SAMPLE_US > tick:
                tick = shown.time_us // SAMPLE_US
                due = tick >= featured + 2
                featured = tick if due else featured
                samples.append(Sample(number, thumbnail(frame), feature(frame) if due else None))
        rest_us = shown.lasting_us if decoding.animated else 0
        lost = decoding.losses.fault()
    squares = np.stack(gray)
    found = cuts.finish(squares, stood=stood)
    return Measured(
        np.array(times), np.array(luma), np.array(contrast), squares, np.stack(colors), found, breaks,
        sizes, samples, lost, lasting_us, rest_us,
    )  # fmt: skip


def gray_square(frame: np.ndarray) -> np.ndarray:
    """Shrink one frame, uint8 RGB, to uint8 (32, 32)."""
    return _square(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))


def perceptual_hash(gray: np.ndarray) -> str:
    """Return the perceptual hash of a gray picture, 64 bits in hexadecimal."""
    return str(imagehash.phash(Image.fromarray(gray)))


def thumbnail(frame: np.ndarray) -> bytes:
    """Return one frame, uint8 RGB, as a small JPEG."""
    height = max(1, round(frame.shape[0] * THUMBNAIL_WIDTH / frame.shape[1]))
    small = cv2.resize(frame, (THUMBNAIL_WIDTH, height), interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(small).save(file, format="JPEG", quality=80)
    return file.getvalue()


def _square(gray: np.ndarray) -> np.ndarray:
    return cv2.resize(gray, (HASHED, HASHED), interpolation=cv2.INTER_AREA)


def _displayed(shown: Shown, sar: float) -> tuple[int, int]:
    return orientation_of(shown.frame).size(round(shown.frame.width * sar), shown.frame.height)
