"""Time is when pictures are shown, not how many there are: still stretches, gaps, edit lists and films of one frame."""

from fractions import Fraction

import av
import numpy as np
import pytest
from bad_media import ffmpeg
from films import shot
from PIL import Image

from goku_cli.caption.clip import Clip
from goku_cli.ingest.ingest import ingest
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest
from goku_cli.media.decode import open_decoding
from goku_cli.media.ffmpeg import Cut, cut_video
from goku_cli.media.frames import read_frames
from goku_cli.media.probing.packets import read_packets
from goku_cli.media.probing.probe import open_video, probe
from goku_cli.media.window import read_windows
from goku_cli.split.settings import SplitSettings
from goku_cli.split.split import split

TICK = 12_288


def timed(path, times, seeds=None, pictures=None):
    """A film of frames at these times (s): a pan, one picture of each seed, or these pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICK)
        stream.options = {"crf": "12", "preset": "ultrafast", "bf": "0"}
        pictures = pictures or [next(shot(seed, 1, 192, 320)) for seed in seeds or ()] or shot(1, len(times), 192, 320)
        for at, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(at * TICK), Fraction(1, TICK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def clips(folder, **settings):
    """Ingest and split a folder; the rows of its clips."""
    with Manifest(folder / "m.duckdb", create=True) as manifest:
        ingest(manifest, find_media([str(folder)]), load_rules("none"), workers=1)
        split(manifest, SplitSettings(**settings), workers=1)
        return manifest.query("SELECT * FROM clip_files ORDER BY source_path, start_us")


SLIDES = [4.0 * i for i in range(5)]
SCREEN = [i / 24 + (6 if i >= 48 else 0) for i in range(96)]


@pytest.mark.parametrize(("times", "seeds"), [(SLIDES, range(5)), (SCREEN, None)], ids=["slides", "screen"])
def test_a_picture_stands_until_the_next_one(tmp_path, times, seeds):
    timed(tmp_path / "a.mp4", times, seeds)
    found = clips(tmp_path)
    assert sum(row["end_us"] - row["start_us"] for row in found) == pytest.approx(20e6 if seeds else 10e6, abs=1e5)
    for row in found:
        span = {"start_us": row["start_us"], "end_us": row["end_us"]}
        seconds = (row["end_us"] - row["start_us"]) / 1e6
        frames = list(read_frames(tmp_path / "a.mp4", fps=24, **span))
        assert len(frames) == round(seconds * 24)
        assert [time for time, _ in frames] == [round(row["start_us"] + i * 1e6 / 24) for i in range(len(frames))]
        clip = Clip(dict(row, kind="video"), most_key_frames=8)
        assert len(clip.key_frames) == min(8, max(1, round(seconds)))
        ((_, window),) = read_windows(tmp_path / "a.mp4", fps=8, frames=9, windows=1, bucket=(48, 80), **span)
        assert len(window) == 9


LEAVES = (0, 1, 2, 0, 3)


@pytest.mark.parametrize("seconds", [2.0, 4.0])
def test_slides_of_one_frame_are_cut_where_slides_of_many_are(tmp_path, seconds):
    rate = 12
    timed(tmp_path / "one.mp4", [seconds * i for i in range(len(LEAVES))], LEAVES)
    shown = [seed for seed in LEAVES for _ in range(round(seconds * rate))]
    timed(tmp_path / "many.mp4", [i / rate for i in range(len(shown))], shown)
    found = clips(tmp_path)
    spans = {name: [(row["start_us"] / 1e6, row["end_us"] / 1e6) for row in found if row["source_path"].endswith(name)]
             for name in ("one.mp4", "many.mp4")}  # fmt: skip
    assert spans["one.mp4"] == [(seconds * i, seconds * (i + 1)) for i in range(len(LEAVES))]
    assert spans["many.mp4"] == [pytest.approx(span, abs=1e-5) for span in spans["one.mp4"]]


@pytest.mark.parametrize("step", [1.0, 4.0])
def test_what_moves_a_little_between_long_frames_is_one_shot(tmp_path, step):
    timed(tmp_path / "a.mp4", [step * i for i in range(8)])
    assert {row["opened_by"] for row in clips(tmp_path)} <= {"start", "length"}


def test_a_shot_of_one_frame_a_second_is_not_cut_where_it_moves_much(tmp_path):
    wide = [picture[:, :320] for picture in shot(1, 40, 192, 320, speed=8.0)]
    with_jumps = dict(enumerate(wide[::5]))
    timed(tmp_path / "a.mp4", [float(i) for i in with_jumps], pictures=list(with_jumps.values()))
    assert {row["opened_by"] for row in clips(tmp_path)} <= {"start", "length"}


@pytest.mark.parametrize("gap", [30, 120])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_gap_in_time_is_a_place_to_cut(tmp_path, gap, container):
    timed(tmp_path / f"a.{container}", [i / 24 + (gap if i >= 96 else 0) for i in range(192)])
    found = clips(tmp_path)
    assert [row["opened_by"] for row in found] == ["start", "gap"] and [row["frames"] for row in found] == [96, 96]
    assert [row["end_us"] - row["start_us"] for row in found] == pytest.approx([4e6, 4e6], abs=5e4)


def test_no_clip_is_longer_than_asked_however_frames_come(tmp_path):
    rng = np.random.default_rng(0)
    timed(tmp_path / "a.mp4", np.cumsum(rng.choice([1 / 24, 0.5, 6.0, 14.0], 120, p=[0.7, 0.2, 0.08, 0.02])))
    found = clips(tmp_path, max_seconds=8, min_seconds=0.1, min_similarity=-1.0)
    assert max(row["end_us"] - row["start_us"] for row in found) <= 8_000_000
    assert len(found) > 10 and all(row["frames"] for row in found)


def test_what_an_edit_list_hides_is_not_counted(tmp_path):
    film = timed(tmp_path / "whole.mp4", [i / 24 for i in range(144)])
    ffmpeg("-ss", 3.5, "-i", film, "-c", "copy", tmp_path / "trimmed.mp4")
    film.unlink()
    facts = probe(tmp_path / "trimmed.mp4")
    assert (facts.frames, facts.duration_us, facts.missing) == (60, pytest.approx(2.5e6, abs=5e4), 0)
    (row,) = clips(tmp_path)
    assert row["frames"] == 60 == len(list(read_frames(tmp_path / "trimmed.mp4")))


def test_a_film_of_one_long_frame_is_a_film(tmp_path):
    source = "testsrc2=size=320x192:rate=1/5"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", 1, "-c:v", "libx264", "-pix_fmt", "yuv420p", tmp_path / "a.mp4")
    with open_video(tmp_path / "a.mp4") as (container, stream):
        assert read_packets(container, stream, 10**9).lasting > 0
    (row,) = clips(tmp_path)
    assert (row["frames"], row["end_us"]) == (1, pytest.approx(5e6, abs=1e5))
    assert len(list(read_frames(tmp_path / "a.mp4", start_us=0, end_us=row["end_us"], fps=8))) == 40


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_the_last_picture_of_an_animation_stands_as_long_as_it_says(tmp_path, suffix):
    first, *others = [Image.fromarray(np.full((48, 64, 3), 40 * i, np.uint8)) for i in range(5)]
    held = [200, 200, 200, 200, 3000]
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=others, duration=held)
    assert probe(tmp_path / f"a.{suffix}").duration_us == pytest.approx(3.8e6, abs=1e3)
    rows = clips(tmp_path, min_seconds=0.1)
    assert rows[-1]["end_us"] == pytest.approx(3.8e6, abs=1e3)


def test_a_rate_is_judged_without_its_gaps(tmp_path):
    timed(tmp_path / "a.mp4", SCREEN)
    facts = probe(tmp_path / "a.mp4")
    assert facts.variable_fps and facts.fps == pytest.approx(9.6, abs=0.1)
    assert facts.usual_fps == pytest.approx(24, abs=0.01)


STRIPES = "nullsrc=size=320x192:rate=50:duration=1,geq=lum='if(lt(mod(X+N*12,120),60),220,40)':cb=128:cr=128"


def comb(frame):
    """How much a line differs from those around it."""
    gray = frame.astype(float).mean(2)
    return float(np.abs(gray[1:-1] - (gray[:-2] + gray[2:]) / 2).mean())


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("a.mpg", ["-c:v", "mpeg2video", "-b:v", "8M", "-flags", "+ildct+ilme"]),
        ("a.mkv", ["-c:v", "libx264", "-preset", "ultrafast", "-flags", "+ildct+ilme", "-x264opts", "tff=1"]),
    ],
)
def test_interlaced_film_is_made_whole_wherever_it_is_read(tmp_path, name, encode):
    weave = "interlace=scan=tff:lowpass=off"
    ffmpeg("-f", "lavfi", "-i", STRIPES, "-vf", weave, *encode, "-pix_fmt", "yuv420p", tmp_path / name)
    ffmpeg(
        "-f", "lavfi", "-i", STRIPES, "-vf", "fps=25", "-c:v", "libx264", "-pix_fmt", "yuv420p", tmp_path / "plain.mp4"
    )
    whole = [frame for _, frame in read_frames(tmp_path / "plain.mp4")]
    read = list(read_frames(tmp_path / name))
    assert probe(tmp_path / name).interlaced and not probe(tmp_path / "plain.mp4").interlaced
    assert [time for time, _ in read] == pytest.approx([i * 40_000 for i in range(len(read))], abs=1_100)
    assert len(read) == probe(tmp_path / name).frames == 25
    assert max(comb(frame) for _, frame in read[1:-1]) < max(comb(frame) for frame in whole) + 2
    late = list(read_frames(tmp_path / name, start_us=600_000))
    assert [time for time, _ in late] == [time for time, _ in read if time >= 599_000]
    cut_video(tmp_path / name, [Cut(0, 10**6, 25, tmp_path / "cut.mp4")])
    assert max(comb(frame) for _, frame in list(read_frames(tmp_path / "cut.mp4"))[1:-1]) < 8


def test_what_follows_where_times_begin_anew_is_told_as_lost(tmp_path):
    """Two recordings in one file: the second one's times were all shown before."""
    timed(tmp_path / "a.mp4", [i / 24 for i in range(48)])
    ffmpeg("-i", str(tmp_path / "a.mp4"), "-c", "copy", str(tmp_path / "a.ts"))
    once = (tmp_path / "a.ts").read_bytes()
    for name, content, lost in (("one.ts", once, None), ("two.ts", once * 2, 2.0), ("three.ts", once * 3, 4.0)):
        (tmp_path / name).write_bytes(content)
        with open_decoding(tmp_path / name) as decoding:
            assert len(list(decoding.frames())) == 48
            fault = decoding.losses.fault()
            lasting = decoding.losses.us / 1e6
        assert (fault is None) == (lost is None)
        assert lasting == pytest.approx(lost or 0, abs=0.3)
