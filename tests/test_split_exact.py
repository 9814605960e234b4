"""Clips are exact to the frame, whatever the container does to time and shape: every frame says its own number."""

import itertools

import numpy as np
import pytest
from numbered import HEIGHT, SHOTS, STARTS, WIDTH, encode, ffmpeg, read_number

from goku_cli.errors import Cause, Fault, GokuError
from goku_cli.ingest.ingest import ingest
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest
from goku_cli.media.frames import read_frames
from goku_cli.media.probing.probe import open_video
from goku_cli.split.settings import SplitSettings, WriteSettings
from goku_cli.split.split import split
from goku_cli.split.write import write_clips

H264 = ("-c:v", "libx264", "-bf", "3", "-g", "50")
UNEVEN = "setpts='(N+3*floor(N/7))/24/TB'"


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "raw").mkdir()
    with Manifest(tmp_path / "a.duckdb", create=True) as opened:
        yield opened


def clips(manifest, **settings):
    raw = manifest.path.parent / "raw"
    ingest(manifest, find_media([str(raw)]), load_rules("none"), workers=1)
    outcome = split(manifest, SplitSettings(**settings), workers=1)
    found = manifest.query("SELECT * FROM clip_files ORDER BY start_us")
    return outcome, found


def numbers(path, **span):
    return [read_number(frame) for _, frame in read_frames(path, **span)]


def turned(path, degrees):
    turns = degrees // 90
    upright = encode(path.with_suffix(".plain.mp4"), *H264, turns=turns)
    ffmpeg("-display_rotation", degrees, "-i", upright, "-c", "copy", path)
    upright.unlink()


VARIANTS = {
    "plain.mp4": lambda path: encode(path, *H264),
    "closed.ts": lambda path: encode(path, *H264),
    "open_gop.mkv": lambda path: encode(path, "-c:v", "libx264", "-x264-params", "open-gop=1:keyint=20:bframes=3"),
    "open_gop.ts": lambda path: encode(path, "-c:v", "libx264", "-x264-params", "open-gop=1:keyint=20:bframes=3"),
    "hevc.mp4": lambda path: encode(path, "-c:v", "libx265", "-x265-params", "keyint=30:log-level=0"),
    "mpeg2.mpg": lambda path: encode(path, "-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", "-g", "15"),
    "late.mkv": lambda path: encode(path, *H264, "-output_ts_offset", "5"),
    "very_late.ts": lambda path: encode(path, *H264, "-output_ts_offset", "100000"),
    "b_frames.avi": lambda path: encode(path, *H264),
    "uneven.mkv": lambda path: encode(path, *H264, "-vf", UNEVEN, "-fps_mode", "passthrough"),
    "uneven.mp4": lambda path: encode(path, *H264, "-vf", UNEVEN, "-fps_mode", "passthrough", "-enc_time_base", "1:96"),
    "anamorphic.mp4": lambda path: encode(path, *H264, "-vf", "scale=160:192,setsar=2"),
    "turned_90.mp4": lambda path: turned(path, 90),
    "turned_180.mp4": lambda path: turned(path, 180),
    "turned_270.mp4": lambda path: turned(path, 270),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_clips_and_their_files_hold_exactly_the_planted_frames(manifest, tmp_path, name):
    path = tmp_path / "raw" / name
    VARIANTS[name](path)
    _, found = clips(manifest)
    wanted = [list(range(a, b)) for a, b in itertools.pairwise(STARTS)]
    read = [numbers(path, start_us=clip["start_us"], end_us=clip["end_us"]) for clip in found]
    assert read == wanted
    assert [clip["frames"] for clip in found] == list(SHOTS)
    assert (found[0]["width"], found[0]["height"]) == (WIDTH, HEIGHT)

    write_clips(manifest, tmp_path / "clips", WriteSettings(), workers=1)
    for clip in found:
        written = list(read_frames(tmp_path / "clips" / f"{clip['id']}.mp4"))
        assert [read_number(frame) for _, frame in written] == read[found.index(clip)]
        assert written[0][1].shape == (HEIGHT, WIDTH, 3)
        times = [time for time, _ in read_frames(path, start_us=clip["start_us"], end_us=clip["end_us"])]
        shifted = np.array(times) - clip["start_us"]
        assert np.abs(shifted - [time for time, _ in written]).max() <= 1100


def test_a_file_that_begins_inside_a_group_of_pictures(manifest, tmp_path):
    whole = encode(tmp_path / "whole.mp4", *H264)
    ffmpeg("-ss", "0.6", "-i", whole, "-c", "copy", tmp_path / "raw" / "cut.mp4")
    _, found = clips(manifest)
    path = tmp_path / "raw" / "cut.mp4"
    read = [numbers(path, start_us=clip["start_us"], end_us=clip["end_us"]) for clip in found]
    assert [part[0] for part in read[1:]] == [40, 84]
    assert list(itertools.chain(*read)) == list(range(read[0][0], 144))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_no_clip_holds_damage(manifest, tmp_path, suffix):
    path = encode(tmp_path / "raw" / f"a.{suffix}", *H264, "-g", "12", "-crf", "5", shots=(144,))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6144] = bytes(6144)
    path.write_bytes(data)
    outcome, found = clips(manifest)
    assert outcome.partial == 1
    failure = manifest.query("SELECT cause, reason, partial FROM failures WHERE stage = 'split'")[0]
    assert failure["cause"] == Cause.DAMAGED and failure["partial"] and "s in" in failure["reason"]
    read = [numbers(path, start_us=clip["start_us"], end_us=clip["end_us"]) for clip in found]
    assert len(read) == 2 and found[1]["opened_by"] == "damage"
    assert all(part == list(range(part[0], part[-1] + 1)) for part in read)
    assert [len(part) for part in read] == [clip["frames"] for clip in found]
    lost = 144 - sum(map(len, read))
    assert 0 < lost < 40


def test_a_file_of_which_nothing_decodes_fails(tmp_path):
    path = encode(tmp_path / "a.mp4", *H264)
    data = bytearray(path.read_bytes())
    begin, end = data.index(b"mdat") + 4, data.index(b"moov")
    data[begin : end - 4] = bytes(end - 4 - begin)
    path.write_bytes(data)
    with pytest.raises(Fault) as raised:
        list(read_frames(path))
    assert raised.value.cause == Cause.UNREADABLE


def test_a_change_of_size_is_a_cut(manifest, tmp_path):
    parts = [
        encode(tmp_path / f"{width}.ts", *H264, "-vf", f"scale={width}:192", "-output_ts_offset", offset, shots=(48,))
        for width, offset in ((320, "0"), (480, "2.1"))
    ]
    joined = f"concat:{parts[0]}|{parts[1]}"
    ffmpeg("-copyts", "-i", joined, "-c", "copy", "-muxdelay", "0", tmp_path / "raw" / "a.ts")
    _, found = clips(manifest)
    assert [clip["frames"] for clip in found] == [48, 48]
    assert [(clip["width"], clip["opened_by"]) for clip in found] == [(320, "start"), (480, "size")]
    write_clips(manifest, tmp_path / "clips", WriteSettings(), workers=1)
    shapes = [next(read_frames(tmp_path / "clips" / f"{clip['id']}.mp4"))[1].shape for clip in found]
    assert shapes == [(192, 320, 3), (192, 480, 3)]


def test_files_of_odd_and_high_dynamic_range_sources_play_everywhere(manifest, tmp_path):
    odd = ("-vf", "crop=319:191:0:0", "-pix_fmt", "yuv444p")
    encode(tmp_path / "raw" / "odd.mkv", "-c:v", "ffv1", *odd, shots=(48,))
    pq = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:log-level=0"
    encode(tmp_path / "raw" / "pq.mp4", "-c:v", "libx265", "-x265-params", pq, "-pix_fmt", "yuv420p10le", shots=(47,))
    clips(manifest)
    assert write_clips(manifest, tmp_path / "clips", WriteSettings(), workers=1).done == 2
    for path in (tmp_path / "clips").iterdir():
        with open_video(path) as (container, stream):
            frames = list(container.decode(stream))
            assert stream.codec_context.name == "h264" and not container.streams.audio
        first = frames[0]
        assert (first.format.name, int(first.colorspace), int(first.color_trc)) == ("yuv420p", 1, 1)
        assert (first.width, first.height) in [(318, 190), (320, 192)] and len(frames) in (48, 47)
    assert len(list((tmp_path / "clips").iterdir())) == 2


def test_a_source_that_changed_is_not_split(manifest, tmp_path):
    path = encode(tmp_path / "raw" / "a.mp4", *H264, shots=(48,))
    clips(manifest)
    encode(path, *H264, shots=(30, 30))
    with pytest.raises(GokuError, match="changed"):
        outcome = split(manifest, SplitSettings(min_seconds=0.5), workers=1)
        outcome.check("split", strict=True)
