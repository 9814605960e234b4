"""Reading and writing media: time is presentation time, and what is not media is refused."""

import resource
import subprocess
import sys

import numpy as np
import pytest
from films import FPS, film, picture, shot, texture
from PIL import Image

from goku_cli.errors import Fault, GokuError
from goku_cli.media.ffmpeg import Cut, count_frames, cut_video, executable, write_video
from goku_cli.media.frames import fit, read_frames
from goku_cli.media.layout import layout, similarity
from goku_cli.media.probing.probe import probe


@pytest.fixture(scope="module")
def two_seconds(tmp_path_factory):
    return film(tmp_path_factory.mktemp("media") / "a.mp4", [(1, 48)])


def ffmpeg(*arguments):
    subprocess.run([executable(), "-loglevel", "error", "-y", *map(str, arguments)], check=True)


def test_probe_measures(two_seconds):
    facts = probe(two_seconds)
    assert (facts.kind, facts.codec, facts.width, facts.height, facts.frames) == ("video", "h264", 160, 90, 48)
    assert facts.duration_us == 2_000_000 and facts.fps == pytest.approx(24) and not facts.variable_fps


def test_every_frame_has_its_time(two_seconds):
    times = [time for time, _ in read_frames(two_seconds)]
    assert times == [round(i * 1e6 / 24) for i in range(48)]


def test_resampling_shows_the_frame_on_screen(two_seconds):
    full = dict(read_frames(two_seconds))
    sampled = list(read_frames(two_seconds, fps=8))
    assert [time for time, _ in sampled] == [i * 125_000 for i in range(16)]
    assert all(np.array_equal(frame, full[time]) for time, frame in sampled)


def test_a_range_is_half_open(two_seconds):
    times = [time for time, _ in read_frames(two_seconds, start_us=500_000, end_us=1_000_000)]
    assert times[0] == 500_000 and times[-1] == 958_333 and len(times) == 12


def test_short_side_only_shrinks():
    assert fit(1920, 1080, 240) == (427, 240)
    assert fit(160, 90, 240) == (160, 90)


def test_rotation_is_applied(two_seconds, tmp_path):
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "90", "-i", two_seconds, "-c", "copy", turned)
    facts = probe(turned)
    assert (facts.width, facts.height) == (90, 160)
    (_, upright), (_, turned_frame) = next(read_frames(two_seconds)), next(read_frames(turned))
    assert turned_frame.shape == (160, 90, 3)
    assert np.array_equal(turned_frame, np.rot90(upright, 1))


def test_variable_rate_keeps_its_times(two_seconds, tmp_path):
    variable = tmp_path / "vfr.mkv"
    ffmpeg("-i", two_seconds, "-vf", "select='lt(n,24)+not(mod(n,6))'", "-fps_mode", "passthrough", variable)
    assert probe(variable).variable_fps
    times = [time for time, _ in read_frames(variable)]
    assert times[:24] == pytest.approx([i * 1e6 / 24 for i in range(24)], abs=1000)
    assert times[24:] == pytest.approx([1e6 + i * 250_000 for i in range(4)], abs=1000)
    assert len(list(read_frames(variable, fps=8))) == 15  # to the last frame's beginning at 1.75 s


@pytest.mark.parametrize("script", ["#EXTM3U\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{}'\n"])
def test_a_playlist_named_mp4_opens_nothing(two_seconds, tmp_path, script):
    fake = tmp_path / "fake.mp4"
    fake.write_text(script.format(two_seconds))
    with pytest.raises(Fault, match="not media: looks like a playlist"):
        probe(fake)


@pytest.mark.parametrize(("content", "said"), [(b"", "empty file"), (b"<html>404</html>" * 50, "looks like HTML")])
def test_what_is_no_video_says_so(tmp_path, content, said):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(GokuError, match=said):
        probe(path)


def test_a_truncated_video_says_so(tmp_path):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    write_video(whole, shot(1, 48, height=240, width=320, speed=3), fps=FPS)
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.8)])
    facts = probe(cut)
    assert 0 < facts.frames < 48 and facts.missing == pytest.approx(1 - facts.frames / 48)


def test_exif_orientation_and_transparency(tmp_path):
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(path, exif=exif)
    ((_, frame),) = read_frames(path)
    assert frame.shape == (40, 20, 3) and (frame == 128).all()


def test_cut_is_exact(two_seconds, tmp_path):
    part = tmp_path / "part.mp4"
    cut_video(two_seconds, [Cut(500_000, 1_500_000, 24, part)])
    assert count_frames(part) == 24
    wanted = dict(read_frames(two_seconds))[500_000]
    assert np.abs(next(read_frames(part))[1].astype(int) - wanted).mean() < 4


def test_a_full_disk_leaves_no_file(tmp_path):
    code = (
        "import resource, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); from films import shot;"
        "from goku_cli.media.ffmpeg import write_video;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); import signal;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "write_video(Path(sys.argv[1]), shot(1, 96, height=240, width=320, speed=2), fps=24)"
    )
    path = tmp_path / "full.mp4"
    done = subprocess.run(
        [sys.executable, "-c", code, path, __file__.rpartition("/")[0]], capture_output=True, text=True
    )
    assert done.returncode == 1 and "GokuError" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_odd_sizes_are_refused(tmp_path):
    with pytest.raises(GokuError, match="even sizes"):
        write_video(tmp_path / "a.mp4", shot(1, 2, height=91), fps=FPS)


def test_layout_tells_scenes_apart():
    features = [layout(texture(seed)) for seed in range(6)]
    others = [similarity(a, b) for i, a in enumerate(features) for b in features[:i]]
    assert max(others) < 0.9
    assert similarity(features[0], layout(np.clip(texture(0).astype(int) + 3, 0, 255).astype(np.uint8))) > 0.99


def test_image_is_one_frame(tmp_path):
    assert [time for time, _ in read_frames(picture(tmp_path / "a.png", 3))] == [0]
