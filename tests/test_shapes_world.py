"""The moving-shapes world draws what it says, and its detector sees what was drawn and nothing else."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goku_cli.shapes.asked import scene_of
from goku_cli.shapes.caption import FORMS, caption, metadata, parse_caption
from goku_cli.shapes.detect import ATTRIBUTES, caption_of, describe, judge
from goku_cli.shapes.prompts import benchmark_prompts
from goku_cli.shapes.render import render
from goku_cli.shapes.scene import EXTENT, HELD_OUT, IMAGE_TASKS, PAIRS, SEEN, VIDEO_TASKS, draw_scene

TASKS = IMAGE_TASKS + VIDEO_TASKS
ASPECT = 80 / 48


def draw(task, seed, pairs=PAIRS):
    seconds = 1.0 if task in VIDEO_TASKS else 0.0
    return draw_scene(np.random.default_rng(seed), task, seconds=seconds, aspect=ASPECT, pairs=pairs)


def clip(scene):
    return render(scene, height=48, width=80, fps=8, frames=9 if scene.task in VIDEO_TASKS else 1)


def rate(verdicts, name):
    asked = [verdict[name] for verdict in verdicts if verdict[name] is not None]
    return float(np.mean(asked)) if asked else None


@pytest.fixture(scope="module")
def world():
    """{task: 25 (clip, metadata)}, rendered once."""
    return {
        task: [(clip(scene), metadata(scene)) for scene in (draw(task, seed) for seed in range(25))] for task in TASKS
    }


@pytest.mark.parametrize("task", TASKS)
def test_a_clean_clip_is_everything_it_was_drawn_to_be(world, task):
    verdicts = [judge(frames, asked) for frames, asked in world[task]]
    assert rate(verdicts, "strict") >= 0.98


@pytest.mark.parametrize("task", TASKS)
def test_grain_does_not_blind_the_detector(world, task):
    rng = np.random.default_rng(0)
    grainy = [np.clip(frames + rng.normal(0, 5, frames.shape), 0, 255).astype(np.uint8) for frames, _ in world[task]]
    verdicts = [judge(frames, asked) for frames, (_, asked) in zip(grainy, world[task], strict=True)]
    assert rate(verdicts, "strict") >= 0.9


def test_another_clips_caption_scores_about_chance(world):
    chance = {
        "color": 1 / 6,
        "shape": 1 / 4,
        "count": 1 / 3,
        "position": 0.05,
        "motion": 1 / 4,
        "camera": 1 / 4,
    }
    verdicts = []
    for rows in world.values():
        verdicts += [judge(rows[i][0], rows[i - 1][1]) for i in range(len(rows))]
    for name, expected in chance.items():
        assert rate(verdicts, name) <= expected + 0.15, name
    assert rate(verdicts, "strict") <= 0.06


def coarse_static(rng, shape, low, high):
    small = rng.integers(low, high, (shape[0], 6, 10, 3), dtype=np.uint8)
    return np.stack([cv2.resize(frame, (80, 48), interpolation=cv2.INTER_CUBIC) for frame in small])


GARBAGE = {
    "noise": lambda rng, shape: rng.integers(0, 256, shape, dtype=np.uint8),
    "coloured static": lambda rng, shape: coarse_static(rng, shape, 0, 256),
    "pale static": lambda rng, shape: coarse_static(rng, shape, 90, 166),
    "grey": lambda rng, shape: np.full(shape, 128, np.uint8),
    "one colour": lambda rng, shape: np.broadcast_to(np.array([225, 40, 40], np.uint8), shape),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_earns_nothing(world, kind):
    rng = np.random.default_rng(1)
    rows = [row for task in TASKS for row in world[task][:10]]
    verdicts = [judge(GARBAGE[kind](rng, frames.shape), asked) for frames, asked in rows]
    assert all(rate(verdicts, name) <= 0.05 for name in ATTRIBUTES)
    assert rate(verdicts, "strict") == 0


def test_a_half_formed_thing_gets_credit_for_its_color_alone():
    scene = draw("single_object", 3)
    smeared = np.stack([cv2.GaussianBlur(frame, (0, 0), 5) for frame in clip(scene)])
    verdict = judge(smeared, metadata(scene))
    assert verdict["color"] and not verdict["strict"]


def test_attributes_fail_one_by_one():
    asked = metadata(draw("motion", 0))
    entry = asked["include"][0]
    frames = clip(draw("motion", 0))
    wrong = {**asked, "include": [{**entry, "motion": "up" if entry["motion"] != "up" else "down"}]}
    verdict = judge(frames, wrong)
    assert (verdict["color"], verdict["shape"], verdict["speed"]) == (True, True, True)
    assert (verdict["motion"], verdict["strict"]) == (False, False)
    assert judge(frames[:1].repeat(9, axis=0), asked)["motion"] is False


def test_a_small_codecs_blur_is_forgiven(world):
    blurred = np.stack([[cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in clip] for clip, _ in world["motion"]])
    verdicts = [judge(frames, asked) for frames, (_, asked) in zip(blurred, world["motion"], strict=True)]
    assert rate(verdicts, "strict") >= 0.9


@pytest.mark.parametrize("task", TASKS)
def test_a_description_says_what_was_drawn(world, task):
    for frames, asked in world[task][:10]:
        said = caption_of(describe(frames))
        assert said is not None
        assert judge(frames, parse_caption(said))["strict"], (said, asked["prompt"])


def test_noise_has_no_caption():
    noise = np.random.default_rng(0).integers(0, 256, (9, 48, 80, 3), dtype=np.uint8)
    assert caption_of(describe(noise)) is None


@given(st.sampled_from(TASKS), st.integers(0, 10**6), st.sampled_from(FORMS), st.booleans())
def test_parsing_inverts_the_grammar(task, seed, form, suffix):
    scene = draw(task, seed)
    text = caption(scene, form) + (". motion score: 3." if suffix else "")
    assert parse_caption(text) == {**metadata(scene, form), "prompt": text}


@given(st.text(max_size=60))
def test_other_text_is_not_of_the_grammar(text):
    assert parse_caption(text) is None


def test_a_scene_is_the_same_picture_at_every_size():
    for task in TASKS:
        scene = draw(task, 4)
        small = render(scene, height=48, width=80, fps=2, frames=3)
        large = render(scene, height=480, width=800, fps=2, frames=3)
        shrunk = np.stack([cv2.resize(frame, (80, 48), interpolation=cv2.INTER_AREA) for frame in large])
        assert np.abs(shrunk.astype(int) - small).mean() < 1.5


@pytest.mark.parametrize("task", TASKS)
def test_nothing_leaves_the_frame_or_touches(task):
    seconds = 2.2 if task in VIDEO_TASKS else 0.0
    for seed in range(20):
        scene = draw_scene(np.random.default_rng(seed), task, seconds=seconds)
        for t in np.linspace(0, seconds, 5):
            for thing in scene.things:
                x, y, radius = scene.seen_at(thing, t)
                half, up, down = (radius * reach for reach in EXTENT[thing.shape])
                assert half <= x <= scene.aspect - half and up <= y <= 1 - down


def test_a_scene_depends_on_its_seed_alone():
    assert draw("motion", 1) == draw("motion", 1)
    assert draw("motion", 1) != draw("motion", 2)


def test_a_scene_that_cannot_fit_is_refused():
    with pytest.raises(ValueError, match="make it shorter"):
        draw_scene(np.random.default_rng(0), "motion", seconds=20)


def test_held_out_pairs_are_not_drawn_for_training():
    drawn = {(t.color, t.shape) for seed in range(60) for t in draw("single_object", seed, SEEN).things}
    assert not drawn & set(HELD_OUT) and len(drawn) > 15


def test_benchmark_prompts_are_parsed_balanced_and_split():
    rows = benchmark_prompts()
    assert len(rows) == len({row["prompt"] for row in rows}) == len(benchmark_prompts("seen")) + 16
    for row in rows:
        assert parse_caption(row["prompt"]) == row["metadata"]
        pairs = {(entry["color"], entry["class"]) for entry in row["metadata"]["include"]}
        assert bool(pairs & set(HELD_OUT)) is not row["seen"]
    moves = [row["metadata"]["include"][0] for row in rows if row["tag"] == "motion" and row["seen"]]
    assert {(m["motion"], m["speed"]): 3 for m in moves} == {
        (m["motion"], m["speed"]): sum((n["motion"], n["speed"]) == (m["motion"], m["speed"]) for n in moves)
        for m in moves
    }


def prompts_of(task):
    """Prompts of a task: those of the benchmark, and scenes of the tasks that it leaves out."""
    listed = [row["prompt"] for row in benchmark_prompts() if row["tag"] == task]
    return listed or [caption(draw(task, seed)) for seed in range(12)]


@pytest.mark.parametrize("task", TASKS)
def test_a_scene_of_a_prompt_shows_what_it_asks_for(task):
    for prompt in prompts_of(task):
        asked = parse_caption(prompt)
        seconds = 1.0 if task in VIDEO_TASKS else 0.0
        scene = scene_of(asked, np.random.default_rng(7), seconds=seconds, aspect=ASPECT)
        assert scene == scene_of(asked, np.random.default_rng(7), seconds=seconds, aspect=ASPECT)
        verdict = judge(clip(scene), asked)
        assert all(value is not False for value in verdict.values()), (prompt, verdict)
    with pytest.raises(ValueError, match="no motion scene of 20 s fits"):
        scene_of(parse_caption("a red circle moving up quickly"), np.random.default_rng(0), seconds=20)
