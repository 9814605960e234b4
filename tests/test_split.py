"""Split: planted cuts are found to the frame, fades belong to no clip, and nothing dangles afterwards."""

import itertools

import numpy as np
import pytest
from films import FPS, film, picture, shot, texture

from goku_cli.errors import GokuError, UsageError
from goku_cli.ingest.ingest import ingest
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest
from goku_cli.media.ffmpeg import count_frames, write_video
from goku_cli.split.fades import fade_gaps
from goku_cli.split.settings import SplitSettings, WriteSettings
from goku_cli.split.split import split
from goku_cli.split.write import write_clips


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "raw").mkdir()
    with Manifest(tmp_path / "a.duckdb", create=True) as opened:
        yield opened


def run(manifest, **settings):
    files = find_media([manifest.path.parent / "raw"])
    ingest(manifest, files, load_rules("none"), workers=1)
    return split(manifest, SplitSettings(**settings), workers=1)


def spans(manifest):
    rows = manifest.query("SELECT start_us, end_us FROM clips ORDER BY start_us")
    return [(round(row["start_us"] * FPS / 1e6), round(row["end_us"] * FPS / 1e6)) for row in rows]


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_hard_cuts_are_exact(manifest, tmp_path, detector):
    film(tmp_path / "raw" / "a.mp4", [(1, 40), (2, 55), (3, 31)])
    assert run(manifest, detector=detector).done == 1
    assert spans(manifest) == [(0, 40), (40, 95), (95, 126)]
    assert manifest.verify() == []


def test_fades_belong_to_no_clip(manifest, tmp_path):
    first, second = list(shot(1, 40)), list(shot(2, 40))
    dim = [(first[-1] * (1 - (i + 1) / 8)).astype(np.uint8) for i in range(8)]
    rise = [(second[0] * (i / 8)).astype(np.uint8) for i in range(8)]
    write_video(tmp_path / "raw" / "a.mp4", itertools.chain(first, dim, rise, second), fps=FPS)
    run(manifest)
    assert spans(manifest) == [(0, 40), (56, 96)]


def test_a_black_shot_is_a_clip_for_the_filter_to_judge(manifest, tmp_path):
    black = [np.zeros((90, 160, 3), np.uint8)] * 48
    write_video(tmp_path / "raw" / "a.mp4", itertools.chain(shot(1, 40), black, shot(2, 40)), fps=FPS)
    run(manifest)
    assert spans(manifest) == [(0, 40), (40, 88), (88, 128)]


def test_fade_gaps_of_numbers():
    luma = np.array([90] * 5 + [60, 30, 0, 0, 40, 80] + [120] * 5, float)
    times = np.arange(len(luma)) * 40_000
    contrast = np.where(luma > 20, 50.0, 0.0)
    assert fade_gaps(times, luma, contrast, 1e6) == [(5, 11)]


def test_long_shots_are_divided_evenly_and_short_ones_dropped(manifest, tmp_path):
    film(tmp_path / "raw" / "a.mp4", [(1, 120), (2, 12)])
    run(manifest, max_seconds=2.0)
    assert spans(manifest) == [(0, 40), (40, 80), (80, 120)]
    assert manifest.query("SELECT DISTINCT opened_by FROM clips ORDER BY 1") == [
        {"opened_by": "length"}, {"opened_by": "start"},
    ]  # fmt: skip


@pytest.mark.parametrize("length", [6, 16, 40])
def test_dissolves_belong_to_no_clip(manifest, tmp_path, length):
    first, second = list(shot(1, 60 + length)), list(shot(2, 60 + length))
    shares = (np.arange(length) + 1) / (length + 1)
    blend = [(first[60 + i] * (1 - share) + second[i] * share).astype(np.uint8) for i, share in enumerate(shares)]
    write_video(tmp_path / "raw" / "a.mp4", [*first[:60], *blend, *second[length:]], fps=FPS)
    run(manifest)
    (_, end), (begin, last) = spans(manifest)
    mixed = 60 + np.flatnonzero((shares > 0.05) & (shares < 0.95))
    assert end <= mixed[0] and begin > mixed[-1]
    assert end >= 55 and begin <= 65 + length and last == 120 + length
    assert manifest.value("SELECT opened_by FROM clips ORDER BY start_us DESC LIMIT 1") == "dissolve"


def test_slow_change_is_cut_by_similarity(manifest, tmp_path):
    wide = np.concatenate([texture(seed) for seed in (1, 2, 3)], axis=1)
    write_video(tmp_path / "raw" / "a.mp4", [wide[:, i * 4 : i * 4 + 160] for i in range(96)], fps=FPS)
    run(manifest, min_similarity=0.8)
    assert manifest.value("SELECT count(*) FROM clips WHERE opened_by = 'similarity'") > 0


def test_flashes_and_changes_of_light_are_no_cuts(manifest, tmp_path):
    frames = list(shot(1, 96))
    for number in (30, 31, 32, *range(60, 96)):
        frames[number] = np.clip(frames[number] * 1.5, 0, 255).astype(np.uint8)
    write_video(tmp_path / "raw" / "a.mp4", frames, fps=FPS)
    run(manifest)
    assert spans(manifest) == [(0, 96)]


@pytest.mark.parametrize("detector", ["hash", "content"])
def test_cuts_are_exact_when_the_detector_skips_frames(manifest, tmp_path, detector):
    film(tmp_path / "raw" / "a.mp4", [(1, 41), (2, 54), (3, 31)])
    run(manifest, detector=detector, frame_skip=3)
    assert spans(manifest) == [(0, 41), (41, 95), (95, 126)]


def test_the_threshold_detector_knows_fades_only(manifest, tmp_path):
    film(tmp_path / "raw" / "a.mp4", [(1, 40), (2, 40)])
    run(manifest, detector="threshold", min_similarity=-1)
    assert spans(manifest) == [(0, 80)]


def test_an_image_is_a_clip_of_one_frame(manifest, tmp_path):
    picture(tmp_path / "raw" / "p.png", 1)
    run(manifest)
    (clip,) = manifest.query("SELECT start_us, end_us, frames, key_hash, thumbnail FROM clips")
    assert (clip["start_us"], clip["end_us"], clip["frames"]) == (0, 0, 1)
    assert len(clip["key_hash"]) == 16 and clip["thumbnail"].startswith(b"\xff\xd8")


def test_other_parameters_replace_the_clips_and_what_spoke_of_them(manifest, tmp_path):
    film(tmp_path / "raw" / "a.mp4", [(1, 96)])
    run(manifest)
    (clip,) = manifest.query("SELECT id FROM clips")
    manifest.insert("scores", [{"clip": clip["id"], "metric": "m", "value": 1.0}])
    assert run(manifest).skipped == 1
    assert run(manifest, max_seconds=2.0).done == 1
    assert len(spans(manifest)) == 2 and manifest.value("SELECT count(*) FROM scores") == 0
    assert manifest.verify() == []


def test_rejected_sources_are_not_split_and_lose_their_clips(manifest, tmp_path):
    film(tmp_path / "raw" / "a.mp4", [(1, 48)])
    picture(tmp_path / "raw" / "p.png", 1)
    run(manifest)
    manifest.execute("UPDATE sources SET rejected = 'too short' WHERE kind = 'video'")
    split(manifest, SplitSettings(), workers=1)
    assert manifest.value("SELECT count(*) FROM clips") == 1
    manifest.execute("UPDATE sources SET rejected = NULL")
    assert split(manifest, SplitSettings(), workers=1).done == 1


def test_written_clips_hold_every_frame(manifest, tmp_path):
    film(tmp_path / "raw" / "a.mp4", [(1, 40), (2, 55)])
    run(manifest)
    assert write_clips(manifest, tmp_path / "clips", WriteSettings(), workers=1).done == 1
    rows = manifest.query("SELECT path, frames FROM clips")
    assert [count_frames(tmp_path / "clips" / row["path"]) for row in rows] == [row["frames"] for row in rows]
    assert write_clips(manifest, tmp_path / "clips", WriteSettings(), workers=1).skipped == 1


def test_nothing_to_split_says_what_to_type(manifest):
    with pytest.raises(GokuError, match="goku ingest FOLDER"):
        split(manifest, SplitSettings())


def test_unknown_detector_names_the_known(manifest, tmp_path):
    picture(tmp_path / "raw" / "p.png", 1)
    with pytest.raises(UsageError, match=r'unknown detector "contnt".*content'):
        run(manifest, detector="contnt")
