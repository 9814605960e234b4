"""Writing media: every file that goku renders or cuts goes through ffmpeg here, verified and published.

ffmpeg's exit code is no proof (a full disk can end with code 0 and an unreadable file), so the number of frames
is read back before a file gets its name. The binary comes from the imageio-ffmpeg wheel; nothing needs a
package manager. Arguments are lists, never shell strings, and names are `file:` URLs, so that a file called
`-lead.mp4` or `http:x.mp4` is a file.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np
from PIL import Image, PngImagePlugin

from goku_cli.errors import GokuError
from goku_cli.media.color.color import coding_of, to_rgb
from goku_cli.media.decode import SLACK_US, Decoding, Shown, open_decoding
from goku_cli.media.orientation import orientation_of
from goku_cli.publish import publish

BT709 = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
COLOR_SPACES = {"bt709": "bt709", "fcc": "fcc", "bt601": "smpte170m", "smpte240m": "smpte240m", "bt2020": "bt2020nc"}
"""ffmpeg's names of the matrices of media/color/color.py."""
SCALING = "bicubic+accurate_rnd+full_chroma_int"
PASSED = frozenset(["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"])
"""Pixel formats that go to the encoder as they are."""


def executable() -> str:
    """Return the path of the ffmpeg binary."""
    return imageio_ffmpeg.get_ffmpeg_exe()


def count_frames(path: Path) -> int:
    """Return the number of video packets in a file that we wrote (no decoding)."""
    with av.open(f"file:{path}", options={"format_whitelist": "mov,matroska"}) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def write_video(path: Path, frames: Iterable[np.ndarray], *, fps: float, crf: int = 18, comment: str = "") -> None:
    """Encode frames (H, W, 3) uint8 RGB, H and W even, as H.264 yuv420p that plays in a browser.

    `comment` becomes the file's tag of that name.

    Raises:
        GokuError: no frames, odd sizes, or what was written does not hold every frame.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise GokuError(f"no frames to write to {path}")
    height, width, _ = first.shape
    if height % 2 or width % 2:
        raise GokuError(f"H.264 needs even sizes, got {width}x{height} for {path}")
    written = 0

    def verify(temporary: Path) -> None:
        if (found := count_frames(temporary)) != written:
            raise GokuError(f"{path}: wrote {written} frames, {found} are in the file; is the disk full?")

    rate = Fraction(fps).limit_denominator(1001)
    tags = {"metadata": f"comment={comment}"} if comment else {}
    with publish(path, verify) as temporary:
        source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=f"{rate}")
        encode = source.output(
            f"file:{temporary}", vcodec="libx264", preset="veryfast", crf=crf, pix_fmt="yuv420p",
            movflags="+faststart", colorspace="bt709", threads=1, loglevel="error",
            vf="scale=out_color_matrix=bt709:out_range=tv", **tags,
        )  # fmt: skip
        with _piped(encode, path) as pipe:
            for frame in itertools.chain([first], iterator):
                pipe.write(np.ascontiguousarray(frame).tobytes())
                written += 1


@contextlib.contextmanager
def _piped(encode: Any, target: Path) -> Iterator[IO[bytes]]:
    """Run ffmpeg and yield the pipe that it reads from.

    Raises:
        GokuError: it failed; with what it said.
    """
    process = encode.overwrite_output().run_async(cmd=executable(), pipe_stdin=True, pipe_stderr=True)
    try:
        with contextlib.suppress(BrokenPipeError):  # what ffmpeg says of it is read below
            yield process.stdin
        _, message = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        raise GokuError(f"ffmpeg could not write {target}: {message.decode(errors='replace').strip()[-300:]}")


def write_image(path: Path, image: np.ndarray, comment: str = "") -> None:
    """Publish one image (H, W, 3) uint8 RGB as PNG, with a text chunk `goku` when there is a comment."""
    chunks = PngImagePlugin.PngInfo()
    if comment:
        chunks.add_itxt("goku", comment)
    with publish(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", pnginfo=chunks)


@dataclass(frozen=True)
class Cut:
    """A range of a source, and the file that it becomes."""

    start_us: int
    end_us: int
    frames: int
    target: Path


def cut_video(
    source: Path, cuts: Sequence[Cut], *, threads: int = 1, crf: int = 18, preset: str = "veryfast",
    fields: str | None = None,
) -> None:  # fmt: skip
    """Write ranges of a video, in order, each as H.264 yuv420p, upright, with square pixels and every frame's own time.

    One decode serves all; it is ours, so a file holds exactly the frames that `read_frames` yields, in the same colors:
    high dynamic range, RGB and what is transparent become BT.709 as everywhere (color/color.py). An odd size
    loses its last column or row. `fields` is as in `open_decoding`.

    Raises:
        GokuError: ffmpeg failed, or a file does not hold as many frames as it should.
    """
    with open_decoding(source, threads, fields=fields) as decoding:
        shown = decoding.frames(cuts[0].start_us)
        held: list[Shown] = []
        for cut in cuts:
            frames = _of_cut(shown, held, cut)
            _encode(decoding, frames, cut, threads, crf, preset)


def _of_cut(shown: Iterator[Shown], held: list[Shown], cut: Cut) -> Iterator[Shown]:
    """Yield the frames of a cut; the one after it is left in `held` for the next."""
    for one in itertools.chain(held[:], shown):
        held.clear()
        if one.time_us >= cut.end_us - SLACK_US:
            held.append(one)
            return
        if one.time_us >= cut.start_us - SLACK_US:
            yield one


def _encode(decoding: Decoding, frames: Iterator[Shown], cut: Cut, threads: int, crf: int, preset: str) -> None:
    first = next(frames, None)
    if first is None:
        raise GokuError(f"nothing lies between {cut.start_us} and {cut.end_us} us")
    base = decoding.stream.time_base or Fraction(1, 1_000_000)

    def verify(temporary: Path) -> None:
        if (found := count_frames(temporary)) != cut.frames:
            raise GokuError(f"{cut.target}: {found} frames are in the file, not {cut.frames}; is the disk full?")

    with publish(cut.target, verify) as temporary:
        raw = ffmpeg.input("pipe:", format="nut", protocol_whitelist="pipe", format_whitelist="nut")
        encode = _upright(raw.video, first.frame, float(decoding.stream.sample_aspect_ratio or 1) or 1.0).output(
            f"file:{temporary}", vcodec="libx264", preset=preset, crf=crf, pix_fmt="yuv420p", threads=threads,
            fps_mode="passthrough", enc_time_base="demux", video_track_timescale=min(base.denominator, 1_000_000),
            movflags="+faststart", loglevel="error",
        )  # fmt: skip
        with (
            _piped(encode.global_args("-nostdin"), cut.target) as pipe,
            contextlib.suppress(av.FFmpegError),
        ):  # its pipe is broken too
            _feed(pipe, itertools.chain([first], frames), base)


def _feed(pipe: IO[bytes], frames: Iterable[Shown], base: Fraction) -> None:
    """Send decoded frames with their times, uncompressed."""
    tick, start_us = float(base) * 1e6, 0
    with av.open(pipe, "w", format="nut") as container:
        stream = None
        for one in frames:
            frame = one.frame if _passes(one.frame) else av.VideoFrame.from_ndarray(to_rgb(one.frame), format="rgb24")
            if stream is None:
                stream, start_us = container.add_stream("rawvideo"), one.time_us
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                stream.codec_context.time_base = base
            frame.pts, frame.time_base = round((one.time_us - start_us) / tick), base
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))


def _passes(frame: av.VideoFrame) -> bool:
    """Say whether a frame's own numbers go to the encoder, since all that they want is another matrix."""
    coding = coding_of(frame)
    return frame.format.name in PASSED and coding.plain and not coding.full


def _upright(video: Any, frame: av.VideoFrame, sar: float) -> Any:
    """Say what the colors are, and turn and scale to what a viewer sees."""
    if _passes(frame):
        video = video.filter("setparams", colorspace=COLOR_SPACES[coding_of(frame).matrix], range="limited")
    width, height = frame.width & ~1, frame.height & ~1
    if sar != 1:
        width = round(frame.width * sar / 2) * 2
    elif (width, height) != (frame.width, frame.height):
        video = video.filter("crop", width, height, 0, 0)
    video = video.filter("scale", width, height, out_color_matrix="bt709", out_range="tv", flags=SCALING)
    for name, *values in orientation_of(frame).filters:
        video = video.filter(name, *values)
    return video.filter("setsar", 1).filter("setparams", range="tv", **BT709)
