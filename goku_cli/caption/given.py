"""The caption that came with the file."""

from goku_cli.caption.clip import Clip
from goku_cli.manifest.store import Row

LEAST_SHARE = 0.5
"""A text that speaks of less of the clip than this may speak of another shot."""


def given(clip: Clip) -> str | None:
    """Return the sidecar text whose time overlaps the clip most, if that is at least half of the clip."""
    best = max(clip.sidecars, key=lambda text: _share(clip, text), default=None)
    return best["text"] if best is not None and _share(clip, best) >= LEAST_SHARE else None


def _share(clip: Clip, text: Row) -> float:
    """Share of the clip that a text speaks of; an image, and a text without times, is all or nothing."""
    start, end = clip.row["start_us"], clip.row["end_us"]
    if text["start_us"] is None or not clip.is_video:
        return 1.0
    return (min(end, text["end_us"]) - max(start, text["start_us"])) / (end - start)
