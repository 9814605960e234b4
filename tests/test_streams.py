"""Which of several video streams is the film."""

import numpy as np
import pytest
from bad_media import ffmpeg
from PIL import Image

from goku_cli.errors import Fault
from goku_cli.media.ffmpeg import Cut, cut_video
from goku_cli.media.frames import read_frames
from goku_cli.media.probing.probe import probe
from goku_cli.media.window import read_windows

SMALL = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate={}:duration={}")
FILM = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=24:duration=2")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def two(path, rate, seconds, *options, first=SMALL, second=FILM):
    inputs = [str(word).format(rate, seconds) for word in (*first, *second)]
    ffmpeg(*inputs, "-map", 0, "-map", 1, *H264, *options, path)
    return path


@pytest.mark.parametrize(
    ("name", "rate", "seconds", "options"),
    [
        ("thumb_first.mp4", 1, 1, ["-c:v:0", "mjpeg", "-pix_fmt:v:0", "yuvj420p", "-disposition:v:0", "0"]),
        ("thumb_default.mp4", 1, 1, ["-c:v:0", "mjpeg", "-pix_fmt:v:0", "yuvj420p", "-disposition:v:1", "0"]),
        ("poster_default.mkv", 1, 1, ["-c:v:0", "mjpeg", "-disposition:v:0", "default", "-disposition:v:1", "0"]),
        ("small_first.mkv", 24, 2, ["-disposition:v:0", "0", "-disposition:v:1", "default"]),
        ("two.ts", 24, 2, []),
        ("cover.mp4", 1, 1, ["-c:v:0", "mjpeg", "-pix_fmt:v:0", "yuvj420p", "-disposition:v:0", "attached_pic"]),
    ],
)
def test_a_preview_that_comes_first_is_not_the_film(tmp_path, name, rate, seconds, options):
    path = two(tmp_path / name, rate, seconds, *options)
    facts = probe(path)
    assert (facts.width, facts.height, facts.frames) == (320, 180, 48)
    assert {frame.shape for _, frame in read_frames(path)} == {(180, 320, 3)}


def test_the_default_stream_is_shown_though_it_is_smaller(tmp_path):
    path = two(tmp_path / "a.mkv", 24, 2, "-disposition:v:0", "default", "-disposition:v:1", "0")
    assert probe(path).width == 160


@pytest.mark.parametrize("suffix", ["avif", "webp"])
def test_a_picture_that_moves_is_a_film(tmp_path, suffix):
    pictures = [Image.fromarray(np.full((48, 64, 3), level, np.uint8)) for level in range(20, 220, 20)]
    pictures[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pictures[1:], duration=100, quality=90)
    facts = probe(tmp_path / f"a.{suffix}")
    assert (facts.kind, facts.frames) == ("video", 10) and facts.fps == pytest.approx(10, abs=0.1)
    levels = [int(frame.mean()) for _, frame in read_frames(tmp_path / f"a.{suffix}")]
    assert np.abs(np.array(levels) - range(20, 220, 20)).max() <= 3
    ((_, window),) = read_windows(
        tmp_path / f"a.{suffix}", start_us=0, end_us=10**6, fps=8, frames=5, windows=1, bucket=(48, 64)
    )
    assert window.shape == (5, 48, 64, 3)
    cut_video(tmp_path / f"a.{suffix}", [Cut(0, 10**6, 10, tmp_path / "cut.mp4")])
    assert len(list(read_frames(tmp_path / "cut.mp4"))) == 10


def test_a_transparent_animation_lies_on_gray_and_says_so(tmp_path):
    pictures = [Image.new("RGBA", (64, 48), (level, 0, 0, 0)) for level in (10, 200)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    assert probe(tmp_path / "a.webp").color == "rgba alpha on 128"
    assert all((frame == 128).all() for _, frame in read_frames(tmp_path / "a.webp"))
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures * 9, duration=2**24 - 1)
    with pytest.raises(Fault, match="hours"):
        probe(tmp_path / "a.webp")
