"""Which clips no training sees: by their id alone, so that all runs, and what measures them, leave out the same."""

SHARE = 20
"""One clip in so many."""


def is_held_out(clip: str) -> bool:
    """Say whether a clip is kept from training."""
    return int(clip[:8], 16) % SHARE == 0
