"""Media probing: files are opened safely, and measured by their packets rather than by their headers.

Every open of a user's media goes through `open_video` or `open_image`: regular files only, a list of allowed
container formats (so that a playlist with the name of a video opens nothing else), no protocol but `file`, and
caps on pixels, frames, seconds and bytes. The content decides what is an image, not the name.
"""

import contextlib
import errno
import functools
import importlib
import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from PIL import Image, ImageOps

from goku_cli.errors import Cause, Fault
from goku_cli.media.animation import pictures
from goku_cli.media.color.color import TRANSFERS, coding_of, to_rgb
from goku_cli.media.color.srgb import to_srgb
from goku_cli.media.fields import look_for_fields
from goku_cli.media.orientation import orientation_of
from goku_cli.media.probing.packets import ANIMATIONS, MAX_SECONDS, read_packets
from goku_cli.media.probing.sniff import image_format, says_high_dynamic_range

FORMATS = "mov,mp4,matroska,webm,avi,gif,apng,mpegts,mpeg,flv,asf,ogg"
PICTURES = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"]
"""What Pillow may open: some of its other formats run programs."""
ANIMATED = frozenset(["GIF", "PNG", "WEBP"])
"""Image formats that are videos when they hold several frames."""
BRIGHT = frozenset(["AVIF", "PNG"])
"""Those that may be of high dynamic range."""
MAX_PIXELS = 8192 * 8192
MAX_BYTES = 1 << 40
"""More than a day of any codec in use; a sparse file can say that it has a million times that."""
PROBED = {"probesize": "5000000", "analyzeduration": "5000000"}
"""What may be read to find the streams: bytes and microseconds (the library's own figures, pinned)."""
MAX_START_US = 1 << 60
"""Thirty thousand years."""
BESIDE = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
"""What lies beside a film, and is none."""
WITH_ALPHA = {"vp9": "libvpx-vp9", "vp8": "libvpx"}
FIRST_PACKETS = 300
"""How many packets may pass without a picture."""


@dataclass(frozen=True)
class Probe:
    """Facts of one file; sizes are as displayed (rotation and sample aspect ratio applied), times in us."""

    kind: str
    container: str
    codec: str
    width: int
    height: int
    rotation: int
    """Degrees to the left that frames are turned by; of a picture 0, whose EXIF was followed."""
    mirrored: bool
    """Whether they are exchanged left and right then."""
    sar: float
    fps: float
    """Frames over seconds."""
    usual_fps: float
    """The same without gaps and still stretches: what the film was made at."""
    variable_fps: bool
    frames: int
    start_us: int
    duration_us: int
    bitrate: int
    pixel_format: str
    bit_depth: int
    hdr: str | None
    color: str
    """How its numbers become RGB (media/color/color.py); "assumed" where it does not say."""
    interlaced: bool
    """Whether its frames are two moments each; they are made whole wherever they are read."""
    fields: str | None
    """tff or bff, the field that comes first, where that was measured because its frames have no flag."""
    audio: bool
    missing: float
    """Share of what the header announces that is not there."""


def check_regular(path: Path) -> os.stat_result:
    """Refuse what is not a regular, non-empty file (a FIFO would block every decoder for ever).

    Raises:
        Fault: VANISHED, PERMISSION, NOT_REGULAR, EMPTY or TOO_LARGE.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Fault(Cause.NOT_REGULAR, path.name)
        if not os.access(path, os.R_OK):
            raise Fault(Cause.PERMISSION, "it may not be read by this user")
    except FileNotFoundError:
        raise Fault(Cause.VANISHED, f"{path} is gone; run goku ingest again") from None
    except PermissionError:
        raise Fault(Cause.PERMISSION, "its folder may not be read by this user") from None
    except OSError as error:
        looped = error.errno == errno.ELOOP
        raise Fault(Cause.NOT_REGULAR if looped else Cause.UNREADABLE, error.strerror or str(error)) from error
    if status.st_size == 0:
        raise Fault(Cause.EMPTY)
    if status.st_size > MAX_BYTES:
        raise Fault(Cause.TOO_LARGE, f"{status.st_size} bytes; at most {MAX_BYTES} are read")
    return status


def check_unchanged(path: Path, size: int, mtime_ns: int) -> None:
    """Refuse a file that is no longer the one that was ingested.

    Raises:
        Fault: CHANGED, or as `check_regular`.
    """
    status = check_regular(path)
    if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
        raise Fault(Cause.CHANGED, f"{path} is not what it was; run goku ingest again")


def is_image(path: Path) -> bool:
    """Say whether a file is a still image by its content; an animated GIF, PNG or WebP is a video.

    Raises:
        Fault: NOT_MEDIA or NO_VIDEO, when it is neither; or as `check_regular`.
    """
    check_regular(path)
    name = image_format(path)
    if name not in ANIMATED:
        return name is not None
    try:
        with _picture(path) as image:
            return not getattr(image, "is_animated", False)
    except Fault:
        return True  # opening it as an image will say why


@contextmanager
def open_video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a video file for reading and yield the container and its video stream.

    Raises:
        Fault: not a regular file, not a known container, without a video stream, or too large; DAMAGED when
            reading it fails within the context.
    """
    with _container(path, FORMATS) as container:
        stream = _film(container)
        _check_size(stream)
        stream.thread_type = "AUTO"
        try:
            yield container, stream
        except av.FFmpegError as error:
            raise Fault(Cause.DAMAGED, _reason(error)) from error


def _container(path: Path, formats: str) -> av.container.InputContainer:
    check_regular(path)
    options = {"format_whitelist": formats, "protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS), **PROBED}
    try:
        return av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace")
    except av.ArgumentError:
        raise Fault(Cause.NOT_MEDIA, f"its format is none of {formats}") from None
    except (av.FFmpegError, ValueError) as error:
        raise Fault(Cause.UNREADABLE, f"its header or index is missing or damaged ({_reason(error)})") from error


def _check_size(stream: av.VideoStream) -> None:
    """Refuse frames that are too large, also where only the frame says so."""
    if stream.codec_context is None:
        raise Fault(Cause.NO_DECODER)
    if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
        size = f"{stream.codec_context.width}x{stream.codec_context.height}"
        raise Fault(Cause.TOO_LARGE, f"{size}; at most {MAX_PIXELS} pixels a frame are read")
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}


def _film(container: av.container.InputContainer) -> av.VideoStream:
    """Return the stream that players show: the default one, else the largest by pixels and length; no cover, preview or
    thumbnail, though it comes first, and none that is over when another is half way through.

    Raises:
        Fault: NO_VIDEO.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & BESIDE]
    if not streams:
        raise Fault(Cause.NO_VIDEO)
    longest = max(map(_seconds, streams))
    return max(streams, key=lambda stream: _claim(stream, longest))


def _claim(stream: av.VideoStream, longest: float) -> tuple[bool, bool, int, float]:
    coder, seconds = stream.codec_context, _seconds(stream)
    pixels = coder.width * coder.height if coder else 0
    film = stream.frames != 1 and (2 * seconds > longest or not longest)
    return film, bool(stream.disposition & Disposition.default), pixels, seconds


def _seconds(stream: av.VideoStream) -> float:
    """Return how long a stream says it is, in Matroska by a tag; 0 when it does not."""
    if stream.duration is not None:
        return float(stream.duration * (stream.time_base or 0))
    said = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return sum(float(part) * unit for part, unit in zip(said.groups(), (3600, 60, 1), strict=True)) if said else 0.0


def decoder_of(stream: av.VideoStream) -> av.VideoCodecContext:
    """Return what decodes a stream whole: FFmpeg's own decoders leave out the transparency of WebM."""
    coder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and coder.name in WITH_ALPHA:
        whole = av.CodecContext.create(WITH_ALPHA[coder.name], "r")
        assert isinstance(whole, av.VideoCodecContext)
        whole.options = dict(coder.options)  # the cap on pixels
        return whole
    return coder


def open_image(path: Path) -> np.ndarray:
    """Return an image as (H, W, 3) uint8 sRGB, turned as its EXIF says, transparency laid on gray.

    Raises:
        Fault: not an image that Pillow reads, cut off, too large, or of numbers without a white.
    """
    return _still(path)[0]


def is_animation(path: Path) -> bool:
    """Say whether a file that is no still is one that only Pillow opens."""
    return image_format(path) == "WEBP"


@contextmanager
def open_animation(path: Path) -> Iterator[Iterator[av.VideoFrame]]:
    """Open an animated WebP and yield its frames.

    Raises:
        Fault: as `open_image`; also while frames are drawn.
    """
    check_regular(path)
    with _picture(path) as image:
        yield pictures(image)


def _still(path: Path) -> tuple[np.ndarray, str]:
    """Return an image, and how it became sRGB."""
    check_regular(path)
    if image_format(path) in BRIGHT and says_high_dynamic_range(path):
        frame = _bright(path)
        return orientation_of(frame).applied(to_rgb(frame)), str(coding_of(frame))
    with _picture(path) as image:
        return to_srgb(ImageOps.exif_transpose(image))


def _bright(path: Path) -> av.VideoFrame:
    """Return a still of high dynamic range, which Pillow would take for standard range, as ffmpeg decodes it."""
    with _container(path, "mov,png_pipe") as container:
        stream = container.streams.video[0]
        _check_size(stream)
        return _first_frame(container, stream)


@contextmanager
def _picture(path: Path) -> Iterator[Image.Image]:
    """Open an image of an allowed format and size; what Pillow then says of it becomes a Fault."""
    name = image_format(path)
    if name == "HEIC" and not _reads_heic():
        raise Fault(Cause.NO_DECODER, "HEIC; install the package pillow-heif, or convert it to JPEG or PNG")
    if name is not None and name not in (*PICTURES, "HEIC"):
        raise Fault(Cause.NO_DECODER, f"{name}; convert it to JPEG or PNG")
    formats = ["HEIF"] if name == "HEIC" else PICTURES
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(_branded(path, name), formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Fault(Cause.TOO_LARGE, f"{image.width}x{image.height}; at most {MAX_PIXELS} pixels are read")
            yield image
    except (Fault, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise Fault(Cause.TOO_LARGE, _reason(error)) from error
    except Exception as error:  # a plugin of Pillow raises whatever its parser ran into
        cut = "truncated" in str(error).lower() or isinstance(error, EOFError)
        raise Fault(Cause.TRUNCATED if cut else Cause.UNREADABLE, _reason(error)) from error


def _branded(path: Path, name: str | None) -> Path | io.BytesIO:
    """Return a file as Pillow knows it: an AVIF may begin with a brand that it is merely compatible with."""
    if name != "AVIF":
        return path
    content = path.read_bytes()
    return path if content[8:12] == b"avif" else io.BytesIO(content[:8] + b"avif" + content[12:])


@functools.cache
def _reads_heic() -> bool:
    """Let Pillow open HEIC, if the plug-in is installed."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def probe(path: Path) -> Probe:
    """Measure one file, video or image by its content.

    Raises:
        Fault: see `open_video` and `open_image`.
    """
    if is_image(path):
        return probe_image(path)
    return probe_animation(path) if is_animation(path) else probe_video(path)


def probe_image(path: Path) -> Probe:
    """Measure a still image: a clip of one frame."""
    pixels, color = _still(path)
    height, width, _ = pixels.shape
    with _picture(path) as image:
        name, mode = str(image.format).lower(), image.mode
    hdr = next((word for word in TRANSFERS.values() if word in color.split()), None)
    return Probe(
        kind="image", container=name, codec=name, width=width, height=height, rotation=0, mirrored=False, sar=1.0,
        fps=0.0, usual_fps=0.0, variable_fps=False, frames=1, start_us=0, duration_us=0, bitrate=0,
        pixel_format=mode.lower(),
        bit_depth=16 if "16" in mode else 32 if mode == "F" else 8, hdr=hdr, color=color,
        interlaced=False, fields=None, audio=False, missing=0.0,
    )  # fmt: skip


def probe_animation(path: Path) -> Probe:
    """Measure an animated WebP by its frames."""
    with _picture(path) as image:
        _, color = to_srgb(image)
    with open_animation(path) as frames:
        lasting = [(frame.width, frame.height, frame.duration) for frame in frames]
    width, height, _ = lasting[0]
    steps = np.array([duration for *_, duration in lasting]) / 1000
    if steps.sum() > MAX_SECONDS:
        raise Fault(Cause.TOO_LARGE, f"{steps.sum() / 3600:.0f} hours; at most {MAX_SECONDS // 3600} are read")
    return Probe(
        kind="video", container="webp", codec="webp", width=width, height=height, rotation=0, mirrored=False, sar=1.0,
        fps=len(steps) / float(steps.sum()), usual_fps=float(1 / np.median(steps)),
        variable_fps=bool(np.abs(steps - np.median(steps)).max() > 0.25 * np.median(steps)), frames=len(steps),
        start_us=0, duration_us=round(float(steps.sum()) * 1e6), pixel_format="rgb24", bit_depth=8, hdr=None,
        bitrate=int(path.stat().st_size * 8 / float(steps.sum())), color=color, interlaced=False, fields=None,
        audio=False, missing=0.0,
    )  # fmt: skip


def probe_video(path: Path) -> Probe:
    """Measure a video by its packets (frame count, real duration, variable rate) and its first frame."""
    with open_video(path) as (container, stream):
        packets = read_packets(container, stream, path.stat().st_size)
    with open_video(path) as (container, stream):
        stream.codec_context.thread_count = 1  # others would decode ahead what nobody asks for
        first = _first_frame(container, stream)
        fields = look_for_fields(container, stream, decoder_of(stream), packets, first)
        codec = stream.codec_context.name
        sar = float(stream.sample_aspect_ratio or 1) or 1.0
        audio = bool(container.streams.audio)
        name, rate = container.format.name, stream.average_rate or stream.guessed_rate or 25
    width, height, turn = max(1, round(first.width * sar)), first.height, orientation_of(first)
    coding = coding_of(first)
    if width * height > MAX_PIXELS:
        raise Fault(Cause.TOO_LARGE, f"{width}x{height} as displayed; at most {MAX_PIXELS} pixels are read")
    width, height = turn.size(width, height)
    steps = packets.steps
    typical = float(np.median(steps)) if len(steps) else packets.lasting or float(1 / rate / packets.time_base)
    begin, end = int(packets.stamps[0]), int(packets.stamps[-1])  # Python's integers do not overflow
    last = packets.lasting if name in ANIMATIONS and packets.lasting else typical
    seconds, start_us = float((end - begin + last) * packets.time_base), int(begin * packets.time_base * 1_000_000)
    if abs(start_us) > MAX_START_US:
        raise Fault(Cause.UNREADABLE, f"its first time is {start_us / 1e6:g} s")
    if seconds > MAX_SECONDS:
        raise Fault(Cause.TOO_LARGE, f"{seconds / 3600:.0f} hours; at most {MAX_SECONDS // 3600} are read")
    return Probe(
        kind="video", container=name, codec=codec, width=width, height=height, rotation=turn.rotation,
        mirrored=turn.reflects, sar=sar, fps=len(packets.stamps) / seconds,
        usual_fps=float(1 / ((packets.usual_step or typical) * packets.time_base)),
        variable_fps=bool(len(steps) and np.abs(steps - typical).max() > 0.25 * typical + 1),
        frames=len(packets.stamps), start_us=start_us,
        duration_us=int(seconds * 1_000_000), bitrate=int(packets.bytes * 8 / seconds), pixel_format=first.format.name,
        bit_depth=max((component.bits for component in first.format.components), default=8),
        hdr=None if coding.transfer == "sdr" else coding.transfer, color=str(coding),
        interlaced=fields.flagged or fields.order is not None, fields=fields.order, audio=audio,
        missing=packets.missing,
    )  # fmt: skip


def _first_frame(container: av.container.InputContainer, stream: av.VideoStream) -> av.VideoFrame:
    """Return the first frame that decodes; damage at the beginning costs frames, not the file."""
    decoder = decoder_of(stream)
    for number, packet in enumerate(container.demux(stream)):
        with contextlib.suppress(av.InvalidDataError):
            if frames := decoder.decode(packet):
                return frames[0]
        if number == FIRST_PACKETS:
            break
    raise Fault(Cause.UNREADABLE, "none of its first frames decodes")


def _reason(error: Exception) -> str:
    told = getattr(error, "strerror", None) or str(error)
    return told.splitlines()[0][:200] if told else type(error).__name__
