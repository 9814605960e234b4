"""Writing media: every file that goku renders or cuts goes through ffmpeg here, verified and published.

ffmpeg's exit code is no proof (a full disk can end with code 0 and an unreadable file), so the number of frames
is read back before a file gets its name. The binary comes from the imageio-ffmpeg wheel; nothing needs a
package manager. Arguments are lists, never shell strings, and names are `file:` URLs, so that a file called
`-lead.mp4` or `http:x.mp4` is a file.
"""

import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np
from PIL import Image

from goku_cli.errors import GokuError
from goku_cli.publish import publish


def executable() -> str:
    """Return the path of the ffmpeg binary."""
    return imageio_ffmpeg.get_ffmpeg_exe()


def count_frames(path: Path) -> int:
    """Return the number of video packets in a file that we wrote (no decoding)."""
    with av.open(f"file:{path}", options={"format_whitelist": "mov,matroska"}) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def write_video(path: Path, frames: Iterable[np.ndarray], *, fps: float, crf: int = 18) -> None:
    """Encode frames (H, W, 3) uint8 RGB, H and W even, as H.264 yuv420p that plays in a browser.

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
    with publish(path, verify) as temporary:
        source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=f"{rate}")
        encode = source.output(
            f"file:{temporary}", vcodec="libx264", preset="veryfast", crf=crf, pix_fmt="yuv420p",
            movflags="+faststart", colorspace="bt709", threads=1, loglevel="error",
            vf="scale=out_color_matrix=bt709:out_range=tv",
        )  # fmt: skip
        process = encode.overwrite_output().run_async(cmd=executable(), pipe_stdin=True, pipe_stderr=True)
        try:
            for frame in itertools.chain([first], iterator):
                process.stdin.write(np.ascontiguousarray(frame).tobytes())
                written += 1
            _, message = process.communicate()
        except BrokenPipeError:
            message = process.stderr.read()
            process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            raise GokuError(f"ffmpeg could not write {path}: {message.decode(errors='replace').strip()[-300:]}")


def write_image(path: Path, image: np.ndarray) -> None:
    """Publish one image (H, W, 3) uint8 RGB as PNG."""
    with publish(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def cut_video(source: Path, target: Path, *, start_us: int, end_us: int, crf: int = 18) -> None:
    """Re-encode [start_us, end_us) of `source` as H.264, rotation applied, exact to the frame.

    Raises:
        GokuError: ffmpeg failed or wrote nothing.
    """

    def verify(temporary: Path) -> None:
        if not count_frames(temporary):
            raise GokuError(f"nothing of {source} lies between {start_us} and {end_us} us")

    with publish(target, verify) as temporary:
        stream = ffmpeg.input(
            f"file:{source.absolute()}",
            ss=start_us / 1e6,
            t=(end_us - start_us) / 1e6,
            protocol_whitelist="file",
        )
        cut = stream.video.output(
            f"file:{temporary}", vcodec="libx264", preset="veryfast", crf=crf, pix_fmt="yuv420p",
            vf="scale=trunc(iw*sar/2)*2:trunc(ih/2)*2,setsar=1", movflags="+faststart", loglevel="error",
        )  # fmt: skip
        try:
            cut.overwrite_output().run(cmd=executable(), capture_stdout=True, capture_stderr=True)
        except ffmpeg.Error as error:
            tail = error.stderr.decode(errors="replace").strip()[-300:]
            raise GokuError(f"ffmpeg could not cut {source}: {tail}") from error
