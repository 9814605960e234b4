"""The synthetic collection: real files, true sidecars, and nothing left to chance or to being run twice."""

import json
from collections import Counter
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from goku_cli.errors import UsageError
from goku_cli.shapes.caption import parse_caption
from goku_cli.shapes.detect import judge
from goku_cli.synth.defects import SHOT_DEFECTS, Damage
from goku_cli.synth.shapes import make
from goku_cli.synth.shots import FPS, World, plan_image, plan_video

SEED = 5


def decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def truth_of(path):
    return json.loads(path.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes")
    ticks = []
    summary = make(out, videos=2, images=4, seed=SEED, advance=ticks.append, workers=1)
    assert sum(ticks) == 6
    return out, summary


@pytest.fixture(scope="module")
def film(made):
    return decode(made[0] / "video-00000.mp4")


def test_videos_are_real_and_as_long_as_their_truth(made, film):
    out, summary = made
    path = out / "video-00000.mp4"
    truth = truth_of(path)
    assert film.shape[1:] == (480, 864, 3)
    assert len(film) / FPS == pytest.approx(truth["shots"][-1]["end"]) and len(film) / FPS > 4
    assert path.stat().st_size * 8 / (len(film) / FPS) >= 500_000
    assert summary["seconds"] > 8 and summary["written"] == 6


def test_shots_and_joins_tile_the_video(made):
    for index in range(2):
        truth = truth_of(made[0] / f"video-{index:05d}.mp4")
        ends = [shot["end"] for shot in truth["shots"]]
        starts = [shot["start"] for shot in truth["shots"]]
        assert [cut["start"] for cut in truth["cuts"]] == ends[:-1]
        assert [cut["end"] for cut in truth["cuts"]] == starts[1:]
        for cut in truth["cuts"]:
            assert cut["end"] - cut["start"] == pytest.approx(0.5 if cut["kind"] == "fade" else 0.0)


def test_what_is_planted_can_be_seen(made, film):
    truth = truth_of(made[0] / "video-00000.mp4")
    for shot in truth["shots"]:
        clip = film[round(shot["start"] * FPS) : round(shot["end"] * FPS)]
        if shot["defect"] in (None, "static", "wrong_caption"):
            assert judge(clip, shot["metadata"], FPS)["strict"], shot["metadata"]["prompt"]
    for cut in truth["cuts"]:
        frame = round(cut["time"] * FPS)
        if cut["kind"] == "hard":
            jump = np.abs(film[frame].astype(int) - film[frame - 1]).mean()
            assert jump > 3 * np.abs(film[frame - 1].astype(int) - film[frame - 2]).mean()
        else:
            assert film[frame].mean() < 10


def test_images_are_png_with_one_caption(made):
    for index in range(4):
        path = made[0] / f"image-{index:05d}.png"
        with Image.open(path) as image:
            assert image.format == "PNG" and min(image.size) >= 480
        truth = truth_of(path)
        (said,) = truth["captions"]
        assert parse_caption(said["text"])["include"] == said["metadata"]["include"]


def test_a_second_run_writes_nothing(made):
    out, first = made
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = make(out, videos=2, images=4, seed=SEED, workers=1)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert (again["written"], again["skipped"]) == (0, 6)
    assert again["defects"] == first["defects"]
    catalog = json.loads((out / "synth.json").read_text())
    assert set(catalog["files"]) <= before.keys() and len(catalog["files"]) == 6


def test_frames_follow_from_the_seed(made, film, tmp_path):
    make(tmp_path, videos=1, images=0, seed=SEED, workers=1)
    assert np.array_equal(decode(tmp_path / "video-00000.mp4"), film)
    assert plan_video(SEED, 0) != plan_video(SEED + 1, 0)
    assert plan_image(SEED, 0) != plan_image(SEED + 1, 0)


def test_another_seed_in_the_same_folder_replaces_the_files(tmp_path):
    make(tmp_path, videos=0, images=1, seed=1, workers=1)
    before = (tmp_path / "image-00000.png").read_bytes()
    assert make(tmp_path, videos=0, images=1, seed=2, workers=1)["written"] == 1
    assert (tmp_path / "image-00000.png").read_bytes() != before


WORLD = World(tasks=("single_object", "motion"), size=(64, 96), radius=(0.2, 0.24), seconds=1.2)


def test_a_world_of_chosen_tasks_size_radius_and_shots():
    shots = [shot for index in range(12) for shot in plan_video(SEED, index, WORLD).shots]
    pictures = [plan_image(SEED, index, WORLD) for index in range(12)]
    clean = [shot for shot in shots if shot.defect not in ("static", "near_duplicate")]
    assert {shot.scene.task for shot in clean} == {"motion"}
    assert {shot.scene.task for shot, _ in pictures} == {"single_object"}
    assert {size for _, size in pictures} == {(64, 96)}
    things = [thing for shot in (*shots, *(shot for shot, _ in pictures)) for thing in shot.scene.things]
    assert all(0.2 <= thing.radius <= 0.24 for thing in things)
    assert {shot.frames for shot in shots} == set(range(29, 34))
    assert min(sum(shot.frames for shot in plan_video(SEED, i, WORLD).shots) for i in range(12)) >= 4 * FPS


def test_another_world_in_the_same_folder_replaces_the_files(tmp_path):
    for world, written in ((WORLD, 1), (WORLD, 0), (replace(WORLD, size=(48, 48)), 1)):
        assert make(tmp_path, videos=0, images=1, seed=1, world=world, workers=1)["written"] == written
    assert decode(tmp_path / "image-00000.png").shape[1:3] == (48, 48)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tasks": ("motoin",)}, 'did you mean "motion"'),
        ({"tasks": ()}, "at least one task"),
        ({"radius": (0.3, 0.2)}, "the least first"),
        ({"radius": (0.1, 0.5)}, "below 0.3"),
        ({"seconds": 0.5}, "from 1 to 10 seconds"),
    ],
)
def test_a_world_that_cannot_be_is_one_line(change, says):
    with pytest.raises(UsageError, match=says):
        replace(WORLD, **change)


def test_things_that_cannot_travel_that_far_are_told():
    with pytest.raises(UsageError, match="make it shorter, or its things smaller"):
        [plan_video(SEED, index, replace(WORLD, radius=(0.29, 0.29), seconds=3.0)) for index in range(6)]


def test_six_videos_hold_every_defect_and_a_fifth_of_many_shots_is_bad():
    six = [shot for index in range(6) for shot in plan_video(SEED, index).shots]
    assert {shot.defect for shot in six if shot.defect} == set(SHOT_DEFECTS)
    many = [shot for index in range(48) for shot in plan_video(SEED, index).shots]
    assert 0.15 < sum(shot.defect is not None for shot in many) / len(many) < 0.25


def test_near_duplicates_repeat_a_clean_shot():
    for index in range(12):
        for shot in plan_video(SEED, index).shots:
            if shot.defect == "near_duplicate":
                original = plan_video(SEED, shot.twin).shots[0]
                assert (original.scene, original.defect) == (shot.scene, None)


def test_wrong_captions_name_none_of_the_things_shown():
    shots = [shot for index in range(36) for shot in plan_video(SEED, index).shots]
    wrong = [shot for shot in shots if shot.defect == "wrong_caption"]
    assert wrong
    for shot in wrong:
        said = {(e["color"], e["class"]) for e in parse_caption(shot.text)["include"]}
        assert not said & {(thing.color, thing.shape) for thing in shot.scene.things}


def test_classes_are_skewed():
    things = [t for index in range(100) for shot in plan_video(SEED, index).shots for t in shot.scene.things]
    counts = Counter((thing.color, thing.shape) for thing in things).most_common()
    assert counts[0][0] == ("red", "circle") and counts[0][1] > 8 * counts[-1][1]


def test_text_covers_and_shaking_moves():
    rng = np.random.default_rng(0)
    frame = np.full((480, 864, 3), 128, np.uint8)
    assert (Damage("text", rng)(frame) != 128).any(axis=2).mean() > 0.05
    dotted = np.where(np.arange(864)[None, :, None] % 64 < 8, 200, frame).astype(np.uint8)
    shaky = Damage("shaky", rng)
    assert not np.array_equal(shaky(dotted), shaky(dotted))


def test_broken_copies_cannot_be_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("goku_cli.synth.shapes.BROKEN_EVERY", 1)
    assert make(tmp_path, videos=1, images=0, seed=SEED, workers=1)["broken"] == 1
    assert truth_of(tmp_path / "broken-00000.mp4")["defects"] == ["broken"]
    with pytest.raises(av.error.FFmpegError):
        decode(tmp_path / "broken-00000.mp4")
