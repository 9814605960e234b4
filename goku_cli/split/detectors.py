"""Shot detectors by name: the only module that imports PySceneDetect. It gets our frames, never a file."""

import cv2
import numpy as np
from scenedetect.common import FrameTimecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import (
    AdaptiveDetector,
    ContentDetector,
    HashDetector,
    HistogramDetector,
    ThresholdDetector,
)

from goku_cli.registry import load

DETECTORS = {
    name: f"goku_cli.split.detectors:{name}" for name in ("adaptive", "content", "hash", "histogram", "threshold")
}
NEIGHBORS = 2
"""On either side of a frame, with which the adaptive detector compares its change."""
LEAST_CHANGE = 6.0
"""Half of the faintest true cut between flat gray scenes (8 to 22); inside their shots the change is about 1."""


def adaptive(threshold: float | None) -> SceneDetector:
    """A cut is a frame that changes `threshold` (2.5) times as much as its neighbors do.

    PySceneDetect's own 3 misses cuts beside motion; what 2.5 finds too many of, `cuts.py` drops.
    """
    return AdaptiveDetector(
        adaptive_threshold=2.5 if threshold is None else threshold,
        window_width=NEIGHBORS,
        min_scene_len=1,
        min_content_val=LEAST_CHANGE,
    )


def content(threshold: float | None) -> SceneDetector:
    """A cut is a frame whose hue, saturation and value change by more than `threshold` (27) on average."""
    return ContentDetector(threshold=27.0 if threshold is None else threshold, min_scene_len=1)


def hash(threshold: float | None) -> SceneDetector:
    """A cut is a frame whose perceptual hash has more than `threshold` (0.35) of its bits changed."""
    return HashDetector(threshold=0.35 if threshold is None else threshold, min_scene_len=1)


def histogram(threshold: float | None) -> SceneDetector:
    """A cut is a frame whose histogram of luma correlates with the last one's by less than 1 - `threshold` (0.2)."""
    return HistogramDetector(threshold=0.2 if threshold is None else threshold, min_scene_len=1)


def threshold(threshold: float | None) -> SceneDetector:
    """A cut is the middle of a fade: where the mean brightness fell below `threshold` (12) and rose again."""
    return ThresholdDetector(threshold=12.0 if threshold is None else threshold, min_scene_len=1)


class ShotCuts:
    """Feeds frames to a detector one by one and keeps the numbers of the frames that open a shot."""

    def __init__(self, name: str, threshold: float | None, frame_skip: int = 0) -> None:
        self._make = load(name, DETECTORS, "detector")
        self._threshold = threshold
        self._stride = frame_skip + 1
        self._detector: SceneDetector = self._make(threshold)
        self._cuts: set[int] = set()
        self._numbers: list[int] = []
        """Of the frames that the detector was shown, in its own count."""
        self._last: np.ndarray | None = None

    def feed(self, number: int, frame: np.ndarray, *, afresh: bool = False, stood: bool = False) -> None:
        """Take frame `number` (from 0, in order), uint8 RGB.

        Args:
            afresh: it does not go on from the last one.
            stood: the last one stood on screen so long that it is as good as many frames.
        """
        if afresh:
            self._close()
            self._detector, self._last = self._make(self._threshold), None
        if self._last is not None and number < self._numbers[-1] + self._stride:
            return
        if stood:
            self._stand()
        self._last = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        self._show(number)

    def finish(self, gray: np.ndarray, *, stood: bool = False) -> list[int]:
        """Return the frame numbers of all cuts, sorted; gray (N, H, W) says where between two frames fed each lies."""
        if stood:
            self._stand()
        self._close()
        if self._stride == 1:
            return sorted(self._cuts)
        steps = np.abs(np.diff(gray.astype(np.int16), axis=0)).mean((1, 2))
        spans = ((max(0, cut - self._stride), cut) for cut in self._cuts)
        return sorted({first + 1 + int(np.argmax(steps[first:cut])) for first, cut in spans if cut > first})

    def _stand(self) -> None:
        for _ in range(NEIGHBORS if self._last is not None else 0):
            self._show(self._numbers[-1])

    def _show(self, number: int) -> None:
        self._numbers.append(number)
        self._note(self._detector.process_frame(self._now, self._last))

    def _close(self) -> None:
        if self._last is not None:
            self._note(self._detector.post_process(self._now))

    @property
    def _now(self) -> FrameTimecode:
        # Counted at a nominal rate: times are ours, so a variable rate cannot move a cut.
        return FrameTimecode(len(self._numbers) - 1, 25.0)

    def _note(self, cuts: list[FrameTimecode]) -> None:
        self._cuts |= {self._numbers[cut.frame_num] for cut in cuts}
