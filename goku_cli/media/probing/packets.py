"""Packet statistics of a video, without decoding: count, times, sizes, and gaps.

Headers are believed only about what they promise: a file that was cut off still announces all of itself, and
decoders stop at its end without a word.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from goku_cli.errors import Cause, Fault

MAX_SECONDS = 24 * 3600
MAX_FRAMES = MAX_SECONDS * 60
ANNOUNCING = frozenset(["matroska,webm", "flv", "asf"])
"""Containers whose header says how long they are, and whose index does not say where every frame lies."""
ANIMATIONS = frozenset(["gif", "apng"])
"""Whose frames say how long they stand."""
LEAST_MISSING = 0.1
"""Less than this share of the announced time is how muxers round and count, not a loss."""
NO_TIME = -(1 << 63)
GAP = 1.5
"""Times the median step: what is longer is a gap, or a picture that stood still."""


@dataclass(frozen=True)
class Packets:
    """The packets of a video stream."""

    stamps: np.ndarray
    """Distinct times of presentation, sorted, in ticks of `time_base`; 8 bytes a frame."""
    time_base: Fraction
    bytes: int
    missing: float
    """Share of what the header announces that is not there."""
    keys: np.ndarray
    """Those times at which a key frame is shown."""
    lasting: int = 0
    """Ticks that the last packet says its frame lasts; 0 when it does not."""

    @property
    def steps(self) -> np.ndarray:
        """Ticks between each frame and the next."""
        return np.diff(self.stamps)

    @property
    def usual_step(self) -> float:
        """Mean ticks between frames, gaps and still stretches left out; 0 of a single frame."""
        steps = self.steps
        return float(steps[steps <= GAP * np.median(steps)].mean()) if len(steps) else 0.0


def read_packets(container: av.container.InputContainer, stream: av.VideoStream, file_size: int) -> Packets:
    """Read a file to its end.

    Raises:
        Fault: TOO_LARGE, NO_DECODER when it is encrypted, or TRUNCATED or UNREADABLE when there is not one packet.
    """
    time_base = stream.time_base or Fraction(1, 1_000_000)
    step = float(1 / (stream.average_rate or stream.guessed_rate or 25) / time_base)
    timed = container.format.name in ANNOUNCING
    begin = min(container.start_time or 0, 0) / 1e6  # what starts late may announce when it ends, not how long it is
    stamps, keys, size, end, torn, lasting = array("q"), array("q"), 0, 0.0, False, 0
    packets = _Whole(container.demux() if timed else container.demux(stream))
    for packet in packets:
        if timed and packet.pts is not None:  # the sound may be the longest
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - begin)
        if packet.stream_index != stream.index or not packet.size or packet.is_discard:
            continue  # a discarded one is decoded for those after it, and never shown (edit lists)
        if not stamps and packet.has_sidedata("encryption_info"):
            raise Fault(Cause.NO_DECODER, "it is encrypted")
        size, torn, lasting = size + packet.size, packet.is_corrupt, packet.duration or 0
        stamps.append(next((time for time in (packet.pts, packet.dts) if time is not None), NO_TIME))
        if packet.is_keyframe and stamps[-1] != NO_TIME:
            keys.append(stamps[-1])
        if len(stamps) > MAX_FRAMES:
            raise Fault(Cause.TOO_LARGE, f"more than {MAX_FRAMES} frames")
    missing = _behind_the_end(stream, file_size)
    if timed and container.duration:
        missing = _short(end, container.duration / 1e6)
    elif container.format.name == "avi" and stamps:  # by time, because a dropped frame is an empty packet
        missing = _short((max(stamps) - min(stamps)) / step + 1 - torn, stream.frames)
    elif packets.broken:
        missing = max(missing, _short(len(stamps), stream.frames))
    if missing and torn:  # the last one was cut in two
        stamps.pop()
    if not stamps:
        raise Fault(Cause.TRUNCATED if missing else Cause.UNREADABLE, "it holds no frames")
    times = np.unique(_complete(np.frombuffer(stamps, np.int64), step))
    return Packets(times, time_base, size, missing, np.unique(np.frombuffer(keys, np.int64)), lasting)


class _Whole:
    """Packets up to the first that cannot be read: what follows counts as missing."""

    def __init__(self, packets: Iterator[av.Packet]) -> None:
        self.broken = False
        self._packets = packets

    def __iter__(self) -> Iterator[av.Packet]:
        try:
            yield from self._packets
        except av.FFmpegError:
            self.broken = True


def _behind_the_end(stream: av.VideoStream, file_size: int) -> float:
    """Share of the frames that lie, by the file's index, where the file has ended."""
    count = lost = 0
    for entry in stream.index_entries:
        count, lost = count + 1, lost + (entry.pos + entry.size > file_size)
    return lost / count if lost else 0.0


def _short(found: float, announced: float) -> float:
    missing = 1 - found / announced if announced else 0.0
    return missing if missing > LEAST_MISSING else 0.0


def _complete(stamps: np.ndarray, step: float) -> np.ndarray:
    """Give frames without a time the one that follows from their neighbors (all of them, or those below zero)."""
    if stamps.min() != NO_TIME:
        return stamps
    known = np.flatnonzero(stamps != NO_TIME)
    number = np.arange(len(stamps))
    if not len(known):
        return np.rint(number * step).astype(np.int64)
    anchor = known[np.maximum(np.searchsorted(known, number, side="right") - 1, 0)]
    return np.rint(stamps[anchor] + (number - anchor) * step).astype(np.int64)
