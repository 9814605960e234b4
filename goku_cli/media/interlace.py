"""Whole pictures out of interlaced film, whose frames hold the lines of two moments and comb where something moves.

Frames that are flagged as interlaced pass through ffmpeg's bwdif, one for one and each at its own time; others are left
as they are, also between those. Of film that was measured to be interlaced (media/fields.py) all frames do.
"""

from collections import deque
from collections.abc import Iterable, Iterator

import av
import av.filter

Marked = tuple[av.VideoFrame, str | None]
"""A frame, and why it does not go on from the one before it."""


def progressive(frames: Iterable[Marked], fields: str | None = None) -> Iterator[Marked]:
    """Yield frames without combs; nothing is held back until the first that is interlaced comes.

    `fields` is the order of those of every frame, tff or bff, where frames do not say that they have two.
    """
    filtering: _Filtering | None = None
    for frame, opens in frames:
        if filtering is not None and (opens or not filtering.takes(frame)):
            yield from filtering.finish()
            filtering = None
        if filtering is None and (fields or frame.interlaced_frame):
            filtering = _Filtering(frame, fields)
        if filtering is None:
            yield frame, opens
        else:
            yield from filtering.push(frame, opens)
    if filtering is not None:
        yield from filtering.finish()


class _Filtering:
    """A filter over frames of one size, which gives each when it has seen the next."""

    def __init__(self, like: av.VideoFrame, fields: str | None) -> None:
        self._like = (like.width, like.height, like.format.name)
        self._waiting: deque[tuple[int | None, str | None]] = deque()
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=like.time_base
        )
        which = f"deint=all:parity={fields}" if fields else "deint=interlaced"
        whole = self._graph.add("bwdif", f"mode=send_frame:{which}")
        self._graph.link_nodes(source, whole, self._graph.add("buffersink")).configure()

    def takes(self, frame: av.VideoFrame) -> bool:
        return (frame.width, frame.height, frame.format.name) == self._like

    def push(self, frame: av.VideoFrame, opens: str | None) -> Iterator[Marked]:
        self._waiting.append((frame.pts, opens))
        self._graph.push(frame)
        yield from self._pull()

    def finish(self) -> Iterator[Marked]:
        self._graph.push(None)
        yield from self._pull()

    def _pull(self) -> Iterator[Marked]:
        while self._waiting:
            try:
                made = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            assert isinstance(made, av.VideoFrame)
            pts, opens = self._waiting.popleft()
            # The filter counts in half ticks; the time of a frame stays what it was.
            made.pts = pts
            yield made, opens
