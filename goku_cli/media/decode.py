"""Decoding: the good frames of a video in order of presentation, and what was lost between them.

After damage a decoder guesses, and every frame that refers to the guess is wrong, until the next key frame. So at
the first sign of it (an error, a frame or a packet flagged as corrupt, or packets that are not there) the decoder is
emptied and starts again at the next key frame. Times are microseconds since the first good frame of the file.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from goku_cli.errors import Cause, Fault
from goku_cli.media.animation import TICK
from goku_cli.media.interlace import progressive
from goku_cli.media.probing.packets import ANIMATIONS, MAX_FRAMES, MAX_SECONDS
from goku_cli.media.probing.probe import decoder_of, is_animation, open_animation, open_video

SLACK_US = 500
"""Time bases round; no two frames are closer than this."""
SEEK_FROM_US = 2_000_000
"""To read what comes before this is quicker than to seek."""
SEEK_BACK_US = (0, 5_000_000)
"""How far before the wanted time to seek: a container without an index may land behind it."""
RESET_US = 1_000_000
"""Frames that step back in time by less are noise of the muxer; by more, another recording begins."""
BROADCAST = frozenset(["mpegts", "mpeg"])
"""Containers in which packets may vanish without a word; a steady stream that jumps in time shows it."""
STEADY = 12
"""Equal steps that make a stream steady."""


@dataclass(frozen=True)
class Shown:
    """One decoded frame."""

    time_us: int
    frame: av.VideoFrame
    opens: str | None = None
    """Why it does not go on from the frame before it: "damage" or "size"."""

    @property
    def lasting_us(self) -> int:
        """How long it stands by its own word; 0 where it has none."""
        return round(float((self.frame.duration or 0) * (self.frame.time_base or 0)) * 1e6)


@dataclass
class Losses:
    """What of a video was not read."""

    places: int = 0
    us: int = 0

    def fault(self) -> Fault | None:
        """Return it as a cause and a reason, when there was any."""
        if not self.places:
            return None
        where = "1 place" if self.places == 1 else f"{self.places} places"
        return Fault(Cause.DAMAGED, f"{self.us / 1e6:.2f} s in {where} do not decode")


class Decoding:
    """One pass over an open video stream. `losses` grows while `frames` is drawn from."""

    def __init__(
        self, container: av.container.InputContainer, stream: av.VideoStream, fields: str | None = None
    ) -> None:
        self.stream = stream
        self._fields = fields
        self.losses = Losses()
        self.animated = container.format.name in ANIMATIONS
        """Whether each frame says how long it stands, the last one too."""
        self._container = container
        self._tick = float(stream.time_base or 0) * 1e6
        # AVI keeps no times of presentation: B-frames come out in order, with times that are not.
        self._counted = container.format.name == "avi" and stream.codec_context.name in ("h264", "hevc")
        self._zero: float | None = None

    def frames(self, start_us: int = 0) -> Iterator[Shown]:
        """Yield the good frames from the one on screen at `start_us`, after a seek when that is quicker.

        Raises:
            Fault: nothing decodes, or it is too long.
        """
        if start_us <= SEEK_FROM_US or self._counted:
            yield from self._timed()
            return
        if next(self._timed(), None) is None:  # sets the zero of time
            return
        for back in SEEK_BACK_US:
            if self._seek(max(0, start_us - back)):
                found = self._timed()
                first = next(found, None)
                if first is not None and first.time_us <= start_us + SLACK_US:
                    yield first
                    yield from found
                    return
        if self._seek(0):
            yield from self._timed()

    def _seek(self, time_us: int) -> bool:
        assert self._zero is not None
        try:
            self._container.seek(int((self._zero + time_us) / self._tick), stream=self.stream)
        except av.FFmpegError:
            return False
        return True

    def _timed(self) -> Iterator[Shown]:
        """Give frames their times; note what is lost between them."""
        frames = _Resuming(self._container, self.stream, sought=self._zero is not None)
        last, step, size, number = -1, 0, None, 0
        behind = 0  # frames of a time that was shown already: what follows where two broadcasts were joined
        for frame, opens in progressive(frames, self._fields):
            at = self._time(frame, number, last, step)
            if self._zero is None:
                self._zero = at
            time_us, number = round(at - self._zero), number + 1
            if time_us <= last:
                behind += behind > 0 or time_us < last - RESET_US
                continue
            if number > MAX_FRAMES or time_us > MAX_SECONDS * 1e6:
                raise Fault(Cause.TOO_LARGE, f"more than {MAX_FRAMES} frames or {MAX_SECONDS / 3600:.0f} hours")
            if opens and last < 0:
                self._lose(round((frames.begin or 0) * self._tick - self._zero), 0)
            elif opens or behind:
                self._lose(last + step, time_us + behind * step)
                opens, behind = "damage", 0
            elif size is not None and size != (frame.width, frame.height):
                opens = "size"
            elif last >= 0:
                step = time_us - last
            last, size = time_us, (frame.width, frame.height)
            yield Shown(time_us, frame, opens)
        if self._zero is None:
            raise Fault(Cause.UNREADABLE, frames.said or "none of its frames decodes")
        if behind:
            self._lose(0, behind * step)
        elif frames.broken:
            self._lose(last + step, round((frames.end or 0) * self._tick - self._zero))

    def _lose(self, from_us: int, to_us: int) -> None:
        self.losses.places += 1
        self.losses.us += max(0, to_us - from_us)

    def _time(self, frame: av.VideoFrame, number: int, last: int, step: int) -> float:
        if self._counted:
            return number * 1e6 / float(self.stream.average_rate or 25)
        if frame.pts is None:
            return (self._zero or 0) + last + (step or 1e6 / float(self.stream.average_rate or 25))
        return frame.pts * self._tick


class _Resuming:
    """Frames of a stream with damage left out; each with "damage" when it is the first after some."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream, sought: bool) -> None:
        self.broken = False
        """Something was lost since the last frame."""
        self.said = ""
        """What the decoder said last."""
        self.begin: int | None = None
        self.end: int | None = None
        """The lowest and the highest time of a packet so far, in ticks."""
        self._sought = sought
        self._packets = container.demux(stream)
        self._codec = decoder_of(stream)
        self._broadcast = container.format.name in BROADCAST
        self._stamps: deque[int] = deque(maxlen=STEADY + 1)

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, str | None]]:
        # A file may begin within a group of pictures (an edit list); after a seek nothing before a key frame is good.
        waiting, key = self._sought, None
        for packet in self._read():
            if waiting:
                if not (packet.is_keyframe and packet.size):
                    continue
                self._codec.flush_buffers()
                waiting, key = False, packet.pts
            if packet.is_corrupt or self._jumps(packet):
                self.broken = True
                if packet.is_corrupt or not packet.is_keyframe:
                    waiting = True
                    continue
            for frame in self._decode(packet):
                if frame is None or frame.is_corrupt:
                    waiting = self.broken = True
                    break
                if key is not None and frame.pts is not None and frame.pts < key:
                    continue  # shown before the key frame, but refers to what was lost
                yield frame, "damage" if self.broken else None
                self.broken = False

    def _read(self) -> Iterator[av.Packet]:
        try:
            for packet in self._packets:
                if packet.size and packet.pts is not None:
                    self.begin = packet.pts if self.begin is None else self.begin
                    self.end = max(self.end or packet.pts, packet.pts + (packet.duration or 0))
                yield packet
        except av.FFmpegError as error:
            self.broken, self.said = True, str(error.strerror)

    def _decode(self, packet: av.Packet) -> list[av.VideoFrame | None]:
        """Return a packet's frames; None stands for what could not be decoded."""
        try:
            return list(self._codec.decode(packet))
        except av.EOFError:
            return []
        except av.FFmpegError as error:
            self.said = str(error.strerror)
            return [None]

    def _jumps(self, packet: av.Packet) -> bool:
        """Say whether packets are missing before this one: times of decoding are even, also with B-frames."""
        if not self._broadcast or packet.dts is None or not packet.size:
            return False
        steps = [after - before for before, after in itertools.pairwise(self._stamps)]
        step = packet.dts - self._stamps[-1] if self._stamps else 0
        self._stamps.append(packet.dts)
        return len(steps) == STEADY and max(steps) - min(steps) <= 1 and step > 1.5 * max(steps)


class Drawn(Decoding):
    """The same of an animation, all frames of which are good and are there."""

    def __init__(self, pictures: Iterator[av.VideoFrame]) -> None:
        self.losses = Losses()
        self.animated = True
        self.stream = Square()  # type: ignore[assignment]
        self._pictures = pictures

    def frames(self, start_us: int = 0) -> Iterator[Shown]:
        """Yield every frame; none is far enough from the first to be sought."""
        for frame in self._pictures:
            yield Shown(round(float((frame.pts or 0) * TICK) * 1e6), frame)


@dataclass(frozen=True)
class Square:
    """What is asked of an animation's stream."""

    sample_aspect_ratio: Fraction = Fraction(1)
    time_base: Fraction = TICK


@contextmanager
def open_decoding(
    path: Path, threads: int = 1, *, smooth: bool = True, fields: str | None = None
) -> Iterator[Decoding]:
    """Open a video for one pass, with as many decoder threads as told: curation keeps a process per core busy.

    Without `smooth` the edges of coding blocks are left as they are: a fifth less time, for pictures that are shrunk
    to a fraction of their size anyway. `fields` is what the film's row says of them: frames that do not say that they
    are interlaced are made whole by it.

    Raises:
        Fault: it cannot be opened or read.
    """
    if is_animation(path):
        with open_animation(path) as pictures:
            yield Drawn(pictures)
        return
    with open_video(path) as (container, stream):
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "AUTO"
        if not smooth:
            stream.codec_context.options = dict(stream.codec_context.options) | {"skip_loop_filter": "all"}
        yield Decoding(container, stream, fields)
