"""Whether frames hold the lines of two moments though nothing in the file says so, as ffmpeg's idet measures it.

Idet says of a frame which of its two fields was filmed first, if they are of two moments at all. Of film that was
interlaced and lost its flags it says the same all along; where it errs (noise, fine lines that move, a still picture)
it says one as often as the other. It wants decoded pictures as they are: without the loop filter it sees lines that
are not there.
"""

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator

import av
import av.filter
import numpy as np

from goku_cli.media.probing.packets import Packets

LINES = range(480, 1089)
PROGRESSIVE_LINES = 720
"""Every standard of this size is progressive."""
RATES = (24.5, 30.5)
"""Frames per second, of which each is two fields."""
FRAMES = 5
"""Looked at in one place; the first and the last lack a neighbor, and so have no vote."""
PLACES, MOST_PLACES = 3, 12
"""Over the length of a film; the most, unless the first few all say that it is progressive."""
CLEAR_VOTES, LEAST_VOTES = 5, 6
"""For a film of one moment a frame, when none is against; for one of two."""
LEAST_SHARE = 0.2
"""Of the frames that show what they are: less is an excerpt in a film that is progressive."""
ONE_SIDED = 5
"""How much oftener than the other one order must be seen."""
ORDERS = ("tff", "bff")
LIKER = 1.2
"""How much better a field must go with that of the frame before it than with that of the one after, or the other way
round. Idet's own 1.04 takes test pictures and noise for interlaced; at 1.2 none of 30 progressive films has a vote, and
film that moves keeps a third of them or more."""


class Fields:
    """What was seen of a film's frames; those that are flagged as interlaced have no vote."""

    def __init__(self, flagged: bool = False) -> None:
        self.flagged = flagged
        self.votes: Counter[str] = Counter()

    def look(self, frames: Iterator[av.VideoFrame]) -> None:
        """Look at frames that follow each other."""
        graph: av.filter.Graph | None = None
        said: list[str] = []
        flags: list[bool] = []
        for frame in frames:
            flags.append(frame.interlaced_frame)
            graph = graph or _graph(frame)
            graph.push(frame)
            with contextlib.suppress(av.BlockingIOError):
                said.append(graph.pull().metadata["lavfi.idet.single.current_frame"])
        self.flagged |= any(flags)
        self.votes.update(word for word, flagged in list(zip(said, flags, strict=False))[1:] if not flagged)

    @property
    def clearly_progressive(self) -> bool:
        """Whether no more of the film need be looked at."""
        return self.votes["progressive"] >= CLEAR_VOTES and not any(self.votes[order] for order in ORDERS)

    @property
    def order(self) -> str | None:
        """Return "tff" or "bff", whether the top or the bottom field comes first; None of frames of one moment."""
        first, other = sorted(ORDERS, key=lambda order: -self.votes[order])
        found, against = self.votes[first], self.votes[other]
        enough = found >= max(LEAST_VOTES, LEAST_SHARE * (found + against + self.votes["progressive"]))
        return first if enough and found >= ONE_SIDED * against else None


def look_for_fields(
    container: av.container.InputContainer, stream: av.VideoStream, decoder: av.VideoCodecContext, packets: Packets,
    first: av.VideoFrame,
) -> Fields:  # fmt: skip
    """Decode a few frames in some places of a film, unless its first one is flagged, or none like it is interlaced."""
    found = Fields(bool(first.interlaced_frame))
    if found.flagged or not _may_hide_any(first.height, packets):
        return found
    for count in (PLACES, MOST_PLACES):
        found = Fields()
        for frames in _stretches(container, stream, decoder, _keys(packets, count)):
            found.look(frames)
        if found.clearly_progressive or found.flagged:
            break
    return found


def _may_hide_any(lines: int, packets: Packets) -> bool:
    """Say whether interlaced film comes in this size and rate."""
    seconds = packets.usual_step * packets.time_base
    return lines in LINES and lines != PROGRESSIVE_LINES and RATES[0] * seconds < 1 < RATES[1] * seconds


def _keys(packets: Packets, count: int) -> list[int]:
    """Return the times of the key frames from which to decode, evenly over the film; two may be the same."""
    if not len(packets.keys):
        return []
    wanted = packets.stamps[np.arange(count) * len(packets.stamps) // count]
    return packets.keys[np.maximum(np.searchsorted(packets.keys, wanted, side="right") - 1, 0)].tolist()


def _stretches(
    container: av.container.InputContainer, stream: av.VideoStream, decoder: av.VideoCodecContext, keys: list[int]
) -> Iterator[Iterator[av.VideoFrame]]:
    """Yield some frames from each key frame on; from one that was there before, those that follow."""
    for key, again in itertools.groupby(keys):
        try:
            container.seek(key, stream=stream)
        except av.FFmpegError:
            continue
        decoder.flush_buffers()
        frames = _decoded(container, stream, decoder)
        for _ in again:
            yield itertools.islice(frames, FRAMES)


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, decoder: av.VideoCodecContext
) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            with contextlib.suppress(av.InvalidDataError):
                yield from decoder.decode(packet)


def _graph(like: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=like.time_base)
    graph.link_nodes(source, graph.add("idet", f"intl_thres={LIKER}"), graph.add("buffersink")).configure()
    return graph
