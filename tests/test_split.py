"""Split: planted cuts are found to the frame, fades belong to no clip, and nothing dangles afterwards."""

import itertools

import numpy as np
import pytest
from films import FPS, film, picture, shot

from goku_cli.errors import GokuError, UsageError
from goku_cli.ingest.ingest import ingest
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest
from goku_cli.media.ffmpeg import count_frames, write_video
from goku_cli.split.fades import fade_gaps
from goku_cli.split.settings import SplitSettings
from goku_cli.split.split import split, write_clips


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


def test_slow_change_is_cut_by_similarity(manifest, tmp_path):
    first, second = next(shot(1, 1)), next(shot(2, 1))
    blend = [(first * (1 - i / 20) + second * (i / 20)).astype(np.uint8) for i in range(20)]
    write_video(tmp_path / "raw" / "a.mp4", [first] * 50 + blend + [second] * 62, fps=FPS)
    run(manifest, detector="content")
    assert len(spans(manifest)) == 2
    assert manifest.value("SELECT count(*) FROM clips WHERE opened_by = 'similarity'") == 1


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
    assert write_clips(manifest, tmp_path / "clips", workers=1).done == 2
    rows = manifest.query("SELECT path, frames FROM clips")
    assert [count_frames(tmp_path / "clips" / row["path"]) for row in rows] == [row["frames"] for row in rows]
    assert write_clips(manifest, tmp_path / "clips", workers=1).skipped == 2


def test_nothing_to_split_says_what_to_type(manifest):
    with pytest.raises(GokuError, match="goku ingest FOLDER"):
        split(manifest, SplitSettings())


def test_unknown_detector_names_the_known(manifest, tmp_path):
    picture(tmp_path / "raw" / "p.png", 1)
    with pytest.raises(UsageError, match=r'unknown detector "contnt".*content'):
        run(manifest, detector="contnt")
