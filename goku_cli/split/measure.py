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
class KeyFrame:
    """A sampled frame, kept small: the one nearest to the middle of a clip becomes its key frame."""

    number: int
    hash: str
    """Perceptual hash of 64 bits, hexadecimal."""
    colors: bytes
    """8x8 Lab colors: two scenes of one brightness pattern can have the same hash."""
    thumbnail: bytes
    """JPEG."""
    feature: np.ndarray


@dataclass(frozen=True)
class Measured:
    """What one pass over a source found; arrays have an entry per frame."""

    times_us: np.ndarray
    luma: np.ndarray
    contrast: np.ndarray
    cuts: list[int]
    samples: list[KeyFrame]


def measure(
    frames: Iterable[tuple[int, np.ndarray]], cuts: ShotCuts, feature: Callable[[np.ndarray], np.ndarray]
) -> Measured:
    """Look at every frame once: feed the detector, note brightness, and sample twice a second."""
    times, luma, contrast, samples = [], [], [], []
    for number, (time_us, frame) in enumerate(frames):
        cuts.feed(number, frame)
        mean, deviation = cv2.meanStdDev(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
        times.append(time_us)
        luma.append(float(mean[0, 0]))
        contrast.append(float(deviation[0, 0]))
        if time_us >= len(samples) * SAMPLE_US:
            samples.append(key_frame(number, frame, feature))
    return Measured(np.array(times), np.array(luma), np.array(contrast), cuts.finish(), samples)


def key_frame(number: int, frame: np.ndarray, feature: Callable[[np.ndarray], np.ndarray]) -> KeyFrame:
    """Keep what is needed of one frame, uint8 RGB."""
    height = max(1, round(frame.shape[0] * THUMBNAIL_WIDTH / frame.shape[1]))
    small = cv2.resize(frame, (THUMBNAIL_WIDTH, height), interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(small).save(file, format="JPEG", quality=80)
    digest = str(imagehash.phash(Image.fromarray(frame)))
    return KeyFrame(number, digest, cells(frame).tobytes(), file.getvalue(), feature(frame))
