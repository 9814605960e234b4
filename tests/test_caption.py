"""Captions: which text a clip gets, what is measured, what is merged, and what contradicts."""

import numpy as np
import pytest
from films import film, picture

from goku_cli.caption.caption import caption, caption_clip, with_motion_score
from goku_cli.caption.clip import Clip
from goku_cli.caption.colors import dominant_colors
from goku_cli.caption.conflict import conflict
from goku_cli.caption.given import given
from goku_cli.caption.measured import measured
from goku_cli.caption.settings import CaptionSettings
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.media.ffmpeg import write_video
from goku_cli.shapes.render import iter_frames
from goku_cli.shapes.scene import Scene, Thing
from goku_cli.wording import clean


def clip(path, start=0, end=2_000_000, kind="video", sidecars=(), motion=None):
    row = {"id": "c", "kind": kind, "source_path": str(path), "start_us": start, "end_us": end}
    return Clip(row, tuple(sidecars), motion)


def text(start, end, words):
    return {"start_us": start, "end_us": end, "text": words}


def test_given_is_the_text_that_overlaps_most():
    sidecars = [text(0, 900_000, "before"), text(900_000, 2_000_000, "within"), text(2_000_000, 9_000_000, "after")]
    assert given(clip("x", sidecars=sidecars)) == "within"
    assert given(clip("x", sidecars=[text(None, None, "all of it")])) == "all of it"
    assert given(clip("x", sidecars=[text(1_900_000, 9_000_000, "another shot")])) is None
    assert given(clip("x")) is None


def test_measured_reads_the_shapes_world(tmp_path):
    scene = Scene("motion", (Thing("red", "circle", 0.17, 0.5, 0.5, 0.3, 0.0),))
    path = tmp_path / "a.mp4"
    write_video(path, iter_frames(scene, height=120, width=216, fps=24, frames=48), fps=24)
    assert measured(clip(path)) == "a red circle moving right quickly"


def test_measured_says_colors_and_motion_of_anything_else(tmp_path):
    path = film(tmp_path / "a.mp4", [(1, 48)], speed=2)
    said = measured(clip(path))
    assert "mostly" in said and "video" in said and "motion" in said
    assert "camera moving to the right" in said  # the picture slides to the left
    still = picture(tmp_path / "p.png", 1)
    assert measured(clip(still, 0, 0, "image")).endswith(" image")


def test_dominant_colors():
    frame = np.zeros((1, 40, 40, 3), np.uint8)
    frame[:, :, :25] = (45, 80, 210)
    frame[:, :, 25:] = (128, 128, 128)
    assert dominant_colors(frame) == ["blue", "grey"]


def test_the_motion_score_is_appended_to_videos(tmp_path):
    path = film(tmp_path / "a.mp4", [(1, 24)])
    job = clip(path, sidecars=[text(None, None, "a street")], motion=3.4), CaptionSettings("given")
    kinds = {row["kind"]: row["text"] for row in caption_clip(job).insert["captions"]}
    assert kinds == {"given": "a street", "merged": "a street. motion score: 3."}
    assert with_motion_score("A street.", 0.2) == "A street. motion score: 0."
    plain = caption_clip((job[0], CaptionSettings("given", motion_score=False))).insert["captions"]
    assert plain[-1]["text"] == "a street"


def test_the_first_captioner_that_has_something_to_say_is_merged(tmp_path):
    path = picture(tmp_path / "p.png", 1)
    rows = caption_clip((clip(path, 0, 0, "image"), CaptionSettings())).insert["captions"]
    assert [row["kind"] for row in rows] == ["measured", "merged"] and rows[0]["text"] == rows[1]["text"]
    with pytest.raises(GokuError, match="given says nothing"):
        caption_clip((clip(path, 0, 0, "image"), CaptionSettings("given")))


@pytest.mark.parametrize(
    ("said", "seen", "found"),
    [
        ("a red circle", "a blue circle", "given says red, measured blue"),
        ("two red circles", "exactly three red circles", "given says two, measured three"),
        ("a red square", "a red circle", "given says square, measured circle"),
        ("a red circle moving left slowly", "a red circle moving right slowly",
         "given says moving left, measured moving right"),
        ("a red circle moving left slowly", "a red circle", "given says moving left, measured moving not at all"),
        ("a red circle, camera zooms in", "a red circle, camera pans left",
         "given says camera zoom in, measured camera pan left"),
        ("a red circle above a blue cross", "a red circle below a blue cross", "given says above, measured below"),
        ("a red circle above a blue cross", "a blue cross below a red circle", None),
        ("a circle and a cross", "a red circle above a blue cross", None),
        ("a red circle", "a red circle moving left slowly", None),
        ("a man in a red coat", "a mostly blue and grey video, slow motion, static camera", None),
        (None, "a red circle", None),
        ("a red circle", None, None),
    ],
)  # fmt: skip
def test_conflicts(said, seen, found):
    assert conflict(said, seen) == found


def test_clean_strips_what_does_not_belong_in_a_text():
    assert clean(" a\tred\x00\x1b[0m \u202ecircle\n\n", 100) == "a red[0m circle"
    assert len(clean("y" * 9000, 2000)) == 2000


@pytest.fixture
def manifest(tmp_path):
    path = film(tmp_path / "a.mp4", [(1, 48)])
    with Manifest(tmp_path / "m.duckdb", create=True) as opened:
        opened.insert("sources", [{"id": "s", "kind": "video"}])
        opened.insert("source_paths", [{"source": "s", "path": str(path)}])
        opened.insert(
            "clips", [{"id": c, "source": "s", "start_us": 0, "end_us": e} for c, e in (("k", 900_000), ("d", 1))]
        )
        opened.insert("selections", [
            {"name": "480p", "clip": "k", "weight": 1.0, "reason": None},
            {"name": "480p", "clip": "d", "weight": 1.0, "reason": "motion 0 < 0.3"},
        ])  # fmt: skip
        yield opened


def test_only_kept_clips_and_only_what_changed(manifest):
    assert caption(manifest, "480p", CaptionSettings(), workers=1).done == 1
    assert caption(manifest, "480p", CaptionSettings(), workers=1).skipped == 1
    manifest.insert("sidecars", [{"source": "s", "text": "a street"}])
    assert caption(manifest, "480p", CaptionSettings(), workers=1).done == 1
    assert manifest.value("SELECT text FROM captions WHERE kind = 'merged'") == "a street"
    assert manifest.value("SELECT count(*) FROM captions WHERE clip = 'd'") == 0
    assert manifest.verify() == []


def test_unknown_captioner(manifest):
    with pytest.raises(UsageError, match=r'unknown captioner "gven".*given'):
        caption(manifest, "480p", CaptionSettings("gven"))
    with pytest.raises(UsageError, match="names no captioner"):
        caption(manifest, "480p", CaptionSettings("+"))


def test_empty_selection(manifest):
    manifest.execute("UPDATE selections SET reason = 'all gone'")
    with pytest.raises(GokuError, match="keeps no clips"):
        caption(manifest, "480p", CaptionSettings())
