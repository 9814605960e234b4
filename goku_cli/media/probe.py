"""What a file is: opened safely, measured by its packets rather than believed.

Every open of a user's media goes through `open_video` or `open_image`: regular files only, a list of allowed
container formats (so that a playlist with the name of a video opens nothing else), no protocol but `file`, and
a cap on pixels.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps

from goku_cli.errors import Cause, Fault, GokuError
from goku_cli.media.suffixes import IMAGE_SUFFIXES

FORMATS = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,flv,asf"
MAX_PIXELS = 8192 * 8192
HDR_TRANSFERS = {16: "pq", 18: "hlg"}


@dataclass(frozen=True)
class Probe:
    """Facts of one file; sizes are as displayed (rotation and sample aspect ratio applied), times in us."""

    kind: str
    container: str
    codec: str
    width: int
    height: int
    rotation: int
    sar: float
    fps: float
    variable_fps: bool
    frames: int
    start_us: int
    duration_us: int
    bitrate: int
    pixel_format: str
    bit_depth: int
    hdr: str | None
    audio: bool


def check_regular(path: Path) -> os.stat_result:
    """Refuse what is not a regular, non-empty file (a FIFO would block every decoder for ever).

    Raises:
        Fault: VANISHED, PERMISSION, NOT_REGULAR or EMPTY.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Fault(Cause.NOT_REGULAR, path.name)
        if not os.access(path, os.R_OK):
            raise Fault(Cause.PERMISSION, "it may not be read by this user")
    except FileNotFoundError:
        raise Fault(Cause.VANISHED, f"{path} is gone; run goku ingest again") from None
    except OSError as error:
        raise Fault(Cause.UNREADABLE, error.strerror or str(error)) from error
    if status.st_size == 0:
        raise Fault(Cause.EMPTY)
    return status


def check_unchanged(path: Path, size: int, mtime_ns: int) -> None:
    """Refuse a file that is no longer the one that was ingested.

    Raises:
        Fault: CHANGED, or as `check_regular`.
    """
    status = check_regular(path)
    if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
        raise Fault(Cause.CHANGED, f"{path} is not what it was; run goku ingest again")


@contextmanager
def open_video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a video file for reading and yield the container and its video stream.

    Raises:
        GokuError: not a regular file, not a known container, or without a video stream.
    """
    check_regular(path)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path.absolute()}", options=options)
    except (av.FFmpegError, ValueError) as error:
        raise GokuError(f"unreadable: {_reason(error)}") from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise GokuError("no video stream")
        stream = streams[0]
        if stream.codec_context is None or not stream.codec_context.width:
            raise GokuError("unreadable: no decoder for its video stream")
        if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
            raise GokuError(f"more than {MAX_PIXELS} pixels a frame")
        stream.thread_type = "AUTO"
        try:
            yield container, stream
        except av.FFmpegError as error:
            raise GokuError(f"damaged: {_reason(error)}") from error


def open_image(path: Path) -> np.ndarray:
    """Return an image as (H, W, 3) uint8 RGB, turned as its EXIF says, transparency laid on grey.

    Raises:
        GokuError: not an image that Pillow reads, or a decompression bomb.
    """
    check_regular(path)
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, (128, 128, 128, 255)), upright)
            return np.asarray(upright.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise GokuError(f"unreadable: {_reason(error)}") from error


def probe(path: Path) -> Probe:
    """Measure one file, video or image by its suffix.

    Raises:
        GokuError: see `open_video` and `open_image`.
    """
    return probe_image(path) if path.suffix.lower() in IMAGE_SUFFIXES else probe_video(path)


def probe_image(path: Path) -> Probe:
    """Measure a still image: a clip of one frame."""
    height, width, _ = open_image(path).shape
    name = path.suffix.lower().lstrip(".")
    return Probe("image", name, name, width, height, 0, 1.0, 0.0, False, 1, 0, 0, 0, "rgb24", 8, None, False)


def probe_video(path: Path) -> Probe:
    """Measure a video by its packets (frame count, real duration, variable rate) and its first frame."""
    with open_video(path) as (container, stream):
        _check_whole(path, stream)
        times, size, time_base = [], 0, stream.time_base or Fraction(1, 1_000_000)
        for packet in container.demux(stream):
            if packet.size:
                size += packet.size
                times.append(packet.pts if packet.pts is not None else packet.dts)
        audio = bool(container.streams.audio)
        name = container.format.name
    stamps = np.sort(np.array([t for t in times if t is not None], dtype=np.int64))
    if len(stamps) == 0:
        raise GokuError("unreadable: no frames with a time")
    with open_video(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise GokuError("unreadable: its first frame does not decode")
        codec = stream.codec_context.name
        sar = float(stream.sample_aspect_ratio or 1) or 1.0
        bits = max((component.bits for component in first.format.components), default=8)
        width, height, rotation = round(first.width * sar), first.height, int(first.rotation) % 360
        hdr = HDR_TRANSFERS.get(int(first.color_trc or 0))
        pixel_format = first.format.name
    if rotation % 180:
        width, height = height, width
    steps = np.diff(stamps)
    typical = float(np.median(steps)) if len(steps) else 1.0
    seconds = float((stamps[-1] - stamps[0] + typical) * time_base)
    return Probe(
        kind="video", container=name, codec=codec, width=width, height=height, rotation=rotation, sar=sar,
        fps=len(stamps) / seconds, variable_fps=bool(len(steps) and np.abs(steps - typical).max() > 0.25 * typical + 1),
        frames=len(stamps), start_us=int(stamps[0] * time_base * 1_000_000), duration_us=int(seconds * 1_000_000),
        bitrate=int(size * 8 / seconds), pixel_format=pixel_format, bit_depth=bits, hdr=hdr, audio=audio,
    )  # fmt: skip


def _check_whole(path: Path, stream: av.VideoStream) -> None:
    """Refuse a file whose index points behind its end: decoders stop there without a word."""
    end, size = max((entry.pos + entry.size for entry in stream.index_entries), default=0), path.stat().st_size
    if end > size:
        raise GokuError(f"truncated: {size} of at least {end} bytes are there; fetch it again")


def _reason(error: Exception) -> str:
    told = getattr(error, "strerror", None) or str(error)
    return told.splitlines()[0][:200] if told else type(error).__name__
