"""Visual change of a clip by DINOv2 features, as in the paper: one frame per second, neighbors compared."""

from collections.abc import Callable, Sequence

from torch import Tensor

from goku_cli.filter.sampled import SampledClip
from goku_cli.vision.device import by_clip
from goku_cli.vision.dinov2 import tokens
from goku_cli.weights import DINOV2


def load() -> Callable[[Sequence[SampledClip]], list[float]]:
    """Return the scorer: least cosine similarity of neighbors a second apart.

    Raises:
        GokuError: the weights are not there.
    """
    DINOV2.path()
    return score


def score(clips: Sequence[SampledClip]) -> list[float]:
    """Return the figure of each clip."""
    rows = tokens([frame for clip in clips for frame in clip.seconds])
    return [_least_similarity(own) for own in by_clip(rows, [len(clip.seconds) for clip in clips])]


def _least_similarity(rows: Tensor) -> float:
    """Of unit vectors (N, D) in order; 1 for a single one."""
    return float((rows[1:] * rows[:-1]).sum(1).min()) if len(rows) > 1 else 1.0
