"""Filter: what each scorer says of a planted fault, and what a tier decides without looking again."""

import cv2
import numpy as np
import pytest
from films import film, picture, shot, texture

from goku_cli.errors import GokuError, UsageError
from goku_cli.filter.decide import decide, explain, keep, summary
from goku_cli.filter.measure import measure as measure_with
from goku_cli.filter.motion import dis_flow, frozen, layout_similarity, shake
from goku_cli.filter.ocr import rapidocr_area
from goku_cli.filter.overlay import overlay
from goku_cli.filter.picture import black, blur, letterbox, measured_aesthetic
from goku_cli.filter.sampled import SampledClip
from goku_cli.filter.scorers import in_use
from goku_cli.filter.tier import load_tier
from goku_cli.ingest.ingest import ingest
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest
from goku_cli.media.ffmpeg import write_image
from goku_cli.split.settings import SplitSettings
from goku_cli.split.split import split

LENIENT = """
[video]
short_side = { min = 64 }
[video.scores]
motion = { min = 0.1 }
[image]
[image.scores]
[duplicates]
hash_distance = 6
color_distance = 4.0
"""


def clip(frames):
    return SampledClip(tuple(np.ascontiguousarray(frame) for frame in frames))


def pan(pixels, frames=12):
    """A pan of so many pixels per eighth of a second at a short side of 240."""
    return clip(shot(1, frames, 240, 426, speed=pixels))


def test_motion_is_in_pixels_per_quarter_second_at_480():
    assert dis_flow(pan(3)) == pytest.approx(2 * 2 * 3, rel=0.15)
    assert dis_flow(clip([texture(1)] * 8)) == 0.0


def test_grain_is_no_motion():
    rng = np.random.default_rng(0)
    grey = np.full((240, 426, 3), 120)
    noisy = [np.clip(grey + rng.normal(0, 4, grey.shape[:2])[..., None], 0, 255).astype(np.uint8) for _ in range(6)]
    assert dis_flow(clip(noisy)) == 0.0


def test_shake_tells_trembling_from_panning():
    wide = texture(1, 240, 426)
    trembling = [wide[:, 40 + 20 * (i % 2) : 466 + 20 * (i % 2)] for i in range(12)]
    assert shake(clip(trembling)) > 40
    assert shake(pan(6)) < 4


def test_frozen_and_black_are_shares():
    still, dark = next(shot(1, 1)), np.full((90, 160, 3), 3, np.uint8)
    assert frozen(clip([still] * 5)) == 1.0 and frozen(pan(3)) == 0.0
    assert black(clip([dark, dark, still, still])) == 0.5


def test_letterbox_is_the_share_under_bars():
    frames = [frame.copy() for frame in shot(1, 4, 100, 200)]
    for frame in frames:
        frame[:12] = frame[-12:] = 0
    assert letterbox(clip(frames)) == pytest.approx(0.24, abs=0.03)
    assert letterbox(clip(shot(1, 4))) == 0.0
    assert letterbox(clip([np.zeros((90, 160, 3), np.uint8)])) == 0.0


def test_blur_rises_with_blurring():
    sharp = next(shot(1, 1, 240, 426))
    figures = [blur(clip([cv2.GaussianBlur(sharp, (0, 0), sigma) if sigma else sharp])) for sigma in (0, 1, 3, 8)]
    assert figures == sorted(figures) and figures[0] < 0.5 < figures[2] and figures[3] < 1


def test_an_overlay_stays_while_the_picture_moves():
    frames = [frame.copy() for frame in shot(1, 24, 240, 426, speed=9)]
    assert overlay(clip(frames)) == 0.0
    for frame in frames:
        cv2.putText(frame, "goku tv", (300, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255,) * 3, 2)
    assert overlay(clip(frames)) == pytest.approx(115 * 30 / (240 * 426), rel=0.4)
    assert overlay(clip(frames[:1] * 24)) == 0.0  # nothing moves around it


def test_similarity_falls_when_the_scene_changes():
    assert layout_similarity(pan(1, 17)) > 0.9
    assert layout_similarity(clip([*shot(1, 8), *shot(2, 8)])) < 0.8


def test_aesthetic_orders_plain_faults():
    good = next(shot(1, 1, 240, 426))
    blurred = cv2.GaussianBlur(good, (0, 0), 6)
    grey = np.repeat(good.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    flat = np.full_like(good, 128)
    scores = [measured_aesthetic(clip([frame])) for frame in (good, blurred, flat)]
    assert scores[0] > scores[1] > scores[2] and measured_aesthetic(clip([grey])) < scores[0]
    assert all(0 <= score <= 10 for score in scores)


def test_ocr_measures_the_largest_line_and_not_a_wheel():
    frame = cv2.resize(texture(7, 240, 284), (426, 240)) // 4 + 90
    written = cv2.putText(frame.copy(), "BREAKING NEWS", (40, 120), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (255,) * 3, 3)
    wheel = cv2.circle(np.full_like(frame, 120), (200, 120), 50, (220, 40, 40), -1)
    assert 0.05 < rapidocr_area(clip([frame, *[frame] * 7, written])) < 0.25
    assert rapidocr_area(clip([wheel])) == 0.0


@pytest.fixture
def manifest(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    film(raw / "a.mp4", [(1, 40), (2, 40)])
    picture(raw / "p.png", 3)
    write_image(raw / "twin.png", cv2.add(next(shot(3, 1)), 2))
    (tmp_path / "lenient.toml").write_text(LENIENT)
    with Manifest(tmp_path / "a.duckdb", create=True) as opened:
        ingest(opened, find_media([raw]), load_rules("none"), workers=1)
        split(opened, SplitSettings(), workers=1)
        yield opened


DEFAULTS = in_use(())


def measure(manifest, scorers=DEFAULTS):
    return measure_with(manifest, scorers, workers=1, timeout=60)


def tier(manifest, text=None, scorers=DEFAULTS):
    path = manifest.path.parent / "lenient.toml"
    if text is not None:
        path.write_text(text)
    return load_tier(str(path), scorers)


def decided(manifest, found):
    """Apply a tier and write its selection; return the funnel."""
    decide(manifest, found)
    keep(manifest, found)
    return summary(manifest)


def test_measure_then_decide(manifest):
    assert measure(manifest).done == 4
    images = {
        row["metric"]
        for row in manifest.query("SELECT metric FROM scores JOIN clip_files ON id = clip WHERE kind = 'image'")
    }
    assert images == {"aesthetic", "ocr_area", "black", "letterbox", "blur"}
    assert decided(manifest, tier(manifest)) == [("kept", 3), ("near duplicate", 1)]
    assert keep(manifest, tier(manifest)) is False
    assert manifest.verify() == []


def test_other_thresholds_decode_nothing(manifest):
    measure(manifest)
    assert measure(manifest).skipped == 4
    decided(manifest, tier(manifest, LENIENT.replace("min = 0.1", "min = 500")))
    (row,) = manifest.query("SELECT reason FROM selections WHERE reason LIKE 'motion%' LIMIT 1")
    assert row["reason"].endswith("< 500")
    assert decided(manifest, tier(manifest, LENIENT.replace("= 6", "= -1"))) == [("kept", 4)]


def test_a_new_scorer_measures_only_what_is_missing(manifest):
    some = {"motion": "dis", "black": "black"}
    measure(manifest, some)
    before = manifest.query("SELECT clip, scorer, run FROM scores ORDER BY ALL")
    manifest.run = 7
    measure(manifest, some | {"shot_length": "films:shot_length"})  # a user's own, by module:function
    assert manifest.query("SELECT clip, scorer, run FROM scores WHERE run IS DISTINCT FROM 7 ORDER BY ALL") == before
    assert manifest.value("SELECT count(*) FROM scores WHERE metric = 'shot_length'") == 4


def test_figures_that_were_deleted_are_measured_again(manifest):
    measure(manifest)
    manifest.execute("DELETE FROM scores WHERE metric = 'black'")
    assert (measure(manifest).done, measure(manifest).skipped) == (4, 4)


def test_a_file_that_changed_since_is_a_failure(manifest):
    (row,) = manifest.query("SELECT path FROM source_paths WHERE path LIKE '%.png' LIMIT 1")
    with open(row["path"], "ab") as file:
        file.write(b"more")
    assert measure(manifest).reasons == {"changed": 1}


def test_explain_says_value_bound_and_verdict_of_each_rule(manifest):
    measure(manifest)
    found = tier(manifest, LENIENT.replace("min = 0.1", "min = 500"))
    decide(manifest, found)
    clip = manifest.clip(manifest.value("SELECT min(id) FROM clip_files WHERE kind = 'video'"))
    rules = {rule["rule"]: rule for rule in explain(manifest, found, clip)}
    assert rules["short side"]["verdict"] == "ok" and rules["short side"]["bound"] == "at least 64 px"
    assert rules["motion"]["scorer"] == "dis" and rules["motion"]["verdict"].startswith("DROPPED: motion")
    assert rules["near duplicate"]["verdict"] == "not asked"


def test_a_clip_that_was_not_measured_is_not_kept(manifest):
    decided(manifest, tier(manifest))
    assert manifest.value("SELECT count(*) FROM selections WHERE reason = 'motion was not measured'") == 2


def test_limits_of_one_scorer_are_not_those_of_another(manifest):
    both = LENIENT.replace("{ min = 0.1 }", "{ dis = { min = 0.1 }, raft = { min = 500 } }")
    measure(manifest)
    assert decided(manifest, tier(manifest, both))[0] == ("kept", 3)
    with pytest.raises(UsageError, match=r'motion has limits for raft, not for the scorer in use; add "dis"'):
        tier(manifest, LENIENT.replace("{ min = 0.1 }", "{ raft = { min = 500 } }"))


def test_what_nobody_measures_is_not_asked_for(manifest):
    found = tier(manifest, LENIENT.replace("motion = { min = 0.1 }", "nsfw = { clip-nsfw = { max = 0.5 } }"))
    assert decided(manifest, found)[0][0] == "kept"


def test_what_a_tier_may_not_say(manifest):
    for text, said in (
        (LENIENT.replace("motion", "moton"), 'no scorer measures "moton".*motion'),
        (LENIENT.replace("short_side", "short_sid"), 'unknown key "short_sid".*short_side'),
        (LENIENT.replace("hash_distance = 6", "hash_distance = 16"), "hash_distance must be -1 to 15"),
        (LENIENT.replace("{ min = 0.1 }", "{ least = 0.1 }"), 'unknown key "least"'),
        (LENIENT.replace("{ min = 0.1 }", "0.1"), "motion must be a table"),
        (LENIENT + 'scope = "all"', 'scope must be "set" or "source"'),
    ):
        with pytest.raises(UsageError, match=said):
            tier(manifest, text)


@pytest.mark.parametrize("asked", [[], ["dinov2", "laion", "easyocr", "raft", "clip-nsfw", "clip-watermark"]])
@pytest.mark.parametrize("name", ["480p", "720p", "1080p", "shapes"])
def test_packaged_tiers_load(name, asked):
    found = load_tier(name, in_use(asked))
    assert found.name == name and found.video.short_side.min >= 480


def test_no_clips_says_what_to_type(tmp_path):
    with Manifest(tmp_path / "a.duckdb", create=True) as empty, pytest.raises(GokuError, match="goku split"):
        measure(empty)
