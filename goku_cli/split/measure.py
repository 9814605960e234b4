"""One decode of a source, and everything that splitting needs from it."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import imagehash
import numpy as np
from PIL import Image

from goku_cli.media.layout import cells
from goku_cli.split.detectors import ShotCuts

SAMPLE_US = 500_000
THUMBNAIL_WIDTH = 160


@dataclass(frozen=True)
class Tiny:
    """All that is kept of every frame (1.2 kB): which one is in the middle of a clip is known only at the end."""

    grey: np.ndarray
    """uint8 (32, 32), from which the perceptual hash is taken."""
    colors: np.ndarray
    """uint8 (8, 8, 3) Lab: two scenes of one brightness pattern can have the same hash."""

    def hash(self) -> str:
        """Return the perceptual hash of 64 bits in hexadecimal."""
        return str(imagehash.phash(Image.fromarray(self.grey)))


@dataclass(frozen=True)
class Sample:
    """A frame of twice a second."""

    number: int
    thumbnail: bytes
    """JPEG."""
    feature: np.ndarray


@dataclass(frozen=True)
class Measured:
    """What one pass over a source found; all but `cuts` and `samples` have an entry per frame."""

    times_us: np.ndarray
    luma: np.ndarray
    contrast: np.ndarray
    tiny: list[Tiny]
    cuts: list[int]
    samples: list[Sample]


def measure(
    frames: Iterable[tuple[int, np.ndarray]], cuts: ShotCuts, feature: Callable[[np.ndarray], np.ndarray]
) -> Measured:
    """Look at every frame once: feed the detector, note brightness, and sample twice a second."""
    times, luma, contrast, small = [], [], [], []
    samples: list[Sample] = []
    for number, (time_us, frame) in enumerate(frames):
        cuts.feed(number, frame)
        mean, deviation = cv2.meanStdDev(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
        times.append(time_us)
        luma.append(float(mean[0, 0]))
        contrast.append(float(deviation[0, 0]))
        small.append(tiny(frame))
        if time_us >= len(samples) * SAMPLE_US:
            samples.append(Sample(number, thumbnail(frame), feature(frame)))
    return Measured(np.array(times), np.array(luma), np.array(contrast), small, cuts.finish(), samples)


def tiny(frame: np.ndarray) -> Tiny:
    """Shrink one frame, uint8 RGB."""
    grey = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    return Tiny(grey, cells(frame))


def thumbnail(frame: np.ndarray) -> bytes:
    """Return one frame, uint8 RGB, as a small JPEG."""
    height = max(1, round(frame.shape[0] * THUMBNAIL_WIDTH / frame.shape[1]))
    small = cv2.resize(frame, (THUMBNAIL_WIDTH, height), interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(small).save(file, format="JPEG", quality=80)
    return file.getvalue()
