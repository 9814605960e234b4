"""Shot detectors by name: the only module that imports PySceneDetect. It gets our frames, never a file."""

import numpy as np
from scenedetect.common import FrameTimecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from goku_cli.registry import load

DETECTORS = {
    "adaptive": "goku_cli.split.detectors:adaptive",
    "content": "goku_cli.split.detectors:content",
}
LEAST_CHANGE = 6.0
"""Half of the faintest true cut between flat grey scenes (8 to 22); inside their shots the change is about 1."""


def adaptive(threshold: float | None) -> SceneDetector:
    """A cut is a frame that changes `threshold` (3) times as much as its neighbours do."""
    return AdaptiveDetector(
        adaptive_threshold=3.0 if threshold is None else threshold,
        min_scene_len=1,
        min_content_val=LEAST_CHANGE,
    )


def content(threshold: float | None) -> SceneDetector:
    """A cut is a frame whose hue, saturation and value change by more than `threshold` (27) on average."""
    return ContentDetector(threshold=27.0 if threshold is None else threshold, min_scene_len=1)


class ShotCuts:
    """Feeds frames to a detector one by one and keeps the numbers of the frames that open a shot."""

    def __init__(self, name: str, threshold: float | None) -> None:
        self._detector: SceneDetector = load(name, DETECTORS, "detector")(threshold)
        self._cuts: list[FrameTimecode] = []
        self._last: FrameTimecode | None = None

    def feed(self, number: int, frame: np.ndarray) -> None:
        """Take frame `number` (from 0, in order), uint8 RGB."""
        # Numbers with a nominal rate: their times are ours, so a variable rate cannot move a cut.
        self._last = FrameTimecode(number, 25.0)
        self._cuts += self._detector.process_frame(self._last, np.ascontiguousarray(frame[..., ::-1]))

    def finish(self) -> list[int]:
        """Return the frame numbers of all cuts, sorted."""
        if self._last is not None:
            self._cuts += self._detector.post_process(self._last)
        return sorted({cut.frame_num for cut in self._cuts})
