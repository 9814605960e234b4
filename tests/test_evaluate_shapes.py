"""Figures of the moving-shapes world, on cases small enough to count by hand."""

import math

import numpy as np
import pytest

from goku_cli.evaluate.shapes.scores import (
    chance_of,
    controls,
    sample_figures,
    score_balance,
    score_captions,
    score_filter,
    score_sample,
    score_split,
)
from goku_cli.shapes.caption import metadata, parse_caption
from goku_cli.shapes.render import render
from goku_cli.shapes.scene import draw_scene


def by_name(figures):
    return {(figure.metric.removeprefix("shapes."), figure.tag): (figure.value, figure.n) for figure in figures}


def span(start, end, file="a", **more):
    return {"file": file, "start": start, "end": end, **more}


def sample(task, seed, seen=True):
    video = task in ("motion", "camera")
    scene = draw_scene(np.random.default_rng(seed), task, seconds=1.0 if video else 0.0, aspect=80 / 48)
    frames = render(scene, height=48, width=80, fps=8, frames=9 if video else 1)
    return frames, metadata(scene), seen, 8.0


def judged(items):
    others = controls([asked for _, asked, _, _ in items])
    return sample_figures(
        (asked, seen, score_sample(frames, asked, other, fps))
        for (frames, asked, seen, fps), other in zip(items, others, strict=True)
    )


def test_oracle_samples_score_one_and_their_controls_do_not():
    items = [sample(task, seed, seen=seed % 2 == 0) for task in ("colors", "motion", "camera") for seed in range(12)]
    figures = by_name(judged(items))
    for name in ("color", "shape", "motion", "speed", "camera", "strict"):
        assert figures[name, "all"][0] == 1.0
        assert figures[name, "chance"][0] < figures[name, "all"][0]
        assert figures[name, "mismatched"][0] < 0.8
    assert figures["strict", "seen"] == figures["strict", "unseen"] == (1.0, 18)
    assert figures["strict", "motion"] == (1.0, 12)
    assert ("count", "all") not in figures


def test_grey_samples_score_zero():
    items = [(np.full((1, 48, 80, 3), 128, np.uint8), parse_caption("a red circle"), True, 8.0)]
    figures = by_name(judged(items))
    assert figures["color", "all"] == figures["strict", "all"] == (0.0, 1)
    assert figures["color", "chance"][0] == pytest.approx(1 / 6)


def test_chance_multiplies_what_is_asked_for():
    odds = chance_of(parse_caption("a red circle moving left slowly"))
    assert odds["strict"] == pytest.approx(1 / (6 * 4 * 4 * 2))
    assert chance_of(parse_caption("three red circles"))["count"] == pytest.approx(1 / 3)
    assert chance_of(parse_caption("a circle and a cross"))["color"] is None


@pytest.mark.parametrize(
    ("prompt", "odds"),
    [
        ("a red circle moving left slowly", {"color": 1 / 6, "shape": 1 / 4, "motion": 1 / 4, "speed": 1 / 2}),
        ("a yellow square, camera pans right", {"color": 1 / 6, "shape": 1 / 4, "camera": 1 / 4}),
        # Two of six colors, two of four shapes, and either color on either shape.
        ("a cyan circle and a purple cross", {"color": 1 / 15, "shape": 1 / 6, "strict": 1 / 15 / 6 / 2}),
        ("a cyan circle to the right of a purple cross", {"color": 1 / 15, "shape": 1 / 6, "position": 1 / 4,
                                                          "strict": 1 / 15 / 6 / 4 / 2}),
    ],
)  # fmt: skip
def test_chance_of_each_attribute(prompt, odds):
    found = {name: value for name, value in chance_of(parse_caption(prompt)).items() if value is not None}
    assert found == pytest.approx({"strict": np.prod(list(odds.values())), **odds})


SHOTS = [span(0, 2), span(2, 4), span(4.5, 6.5)]
CUTS = [span(2, 2, time=2, kind="hard"), span(4, 4.5, time=4.25, kind="fade")]


def test_exact_clips_find_every_cut():
    figures = by_name(score_split(SHOTS, CUTS, SHOTS))
    assert figures["split.precision", "all"] == figures["split.recall", "all"] == (1.0, 2)
    assert figures["split.f1", "all"][0] == figures["split.purity", "all"][0] == 1.0
    assert figures["split.coverage", "all"][0] == pytest.approx(1.0)


def test_a_hard_cut_is_found_within_two_frames_only():
    near = [span(0, 2 + 2 / 24), span(2 + 2 / 24, 6.5)]
    far = [span(0, 2 + 3 / 24), span(2 + 3 / 24, 6.5)]
    assert by_name(score_split(SHOTS, CUTS, near))["split.recall", "hard"] == (1.0, 1)
    figures = by_name(score_split(SHOTS, CUTS, far))
    assert figures["split.recall", "hard"] == (0.0, 1)
    assert figures["split.precision", "all"] == (0.0, 1)


def test_many_boundaries_in_a_fade_are_one_hit():
    clips = [span(0, 2), span(2, 4.1), span(4.1, 4.3), span(4.3, 6.5)]
    figures = by_name(score_split(SHOTS, CUTS, clips))
    assert figures["split.recall", "fade"] == (1.0, 1)
    assert figures["split.precision", "all"] == (1.0, 2)


def test_uncut_video_has_no_precision_and_little_purity():
    figures = by_name(score_split(SHOTS, CUTS, [span(0, 6.5)]))
    assert figures["split.recall", "all"] == (0.0, 2)
    assert ("split.precision", "all") not in figures
    assert figures["split.purity", "all"][0] == pytest.approx(1 / 3)


def test_filter_counts_dropped_clips_against_planted_defects():
    shots = [span(0, 2, defect=None), span(2, 4, defect="static"), span(4, 6, defect="wrong_caption")]
    clips = [
        span(0, 2, dropped=True),
        span(2, 4, dropped=True),
        span(3, 5, dropped=False),  # half of it is static: defective
        span(4, 6, dropped=False),
    ]
    figures = by_name(score_filter(shots, clips))
    assert figures["filter.precision", "all"] == (0.5, 2)
    assert figures["filter.recall", "all"] == figures["filter.recall", "static"] == (0.5, 2)
    assert figures["filter.false_alarm", "all"] == (0.5, 2)


def test_either_of_two_near_duplicates_may_be_dropped():
    twin = {"file": "a", "start": 0, "end": 2}
    shots = [span(0, 2, defect=None), span(0, 2, "b", defect="near_duplicate", twin=twin)]
    for dropped in ("a", "b"):
        clips = [span(0, 2, file, dropped=file == dropped) for file in "ab"]
        figures = by_name(score_filter(shots, clips))
        assert figures["filter.precision", "all"] == figures["filter.recall", "near_duplicate"] == (1.0, 1)
        assert figures["filter.false_alarm", "all"] == (0.0, 1)


def test_an_image_is_its_only_shot():
    shots = [span(0, 0, defect="text"), span(0, 0, "b", defect=None)]
    clips = [span(0, 0, dropped=True), span(0, 0, "b", dropped=False)]
    assert by_name(score_filter(shots, clips))["filter.f1", "all"][0] == 1.0


def test_captions_are_compared_attribute_by_attribute():
    truth = parse_caption("a red circle moving left slowly")
    pairs = [
        ("a red circle slowly moves left", truth),
        ("a red square moving left quickly", truth),
        ("A dog barks.", truth),
    ]
    figures = by_name(score_captions(pairs))
    assert figures["caption.color", "all"] == (pytest.approx(2 / 3), 3)
    assert figures["caption.shape", "all"][0] == figures["caption.speed", "all"][0] == pytest.approx(1 / 3)
    assert figures["caption.motion", "all"][0] == figures["caption.parsed", "all"][0] == pytest.approx(2 / 3)


def test_left_of_and_right_of_say_the_same():
    truth = parse_caption("a red circle to the left of a blue square")
    turned = score_captions([("a blue square to the right of a red circle", truth)])
    wrong = score_captions([("a red circle to the right of a blue square", truth)])
    assert by_name(turned)["caption.position", "all"] == (1.0, 1)
    assert by_name(wrong)["caption.position", "all"] == (0.0, 1)


def test_balance_measures_the_way_to_the_target():
    figures = by_name(score_balance({"a": 3, "b": 1}, {"a": 2, "b": 2}, {"a": 1, "b": 1}))
    assert figures["balance.tv", "before"] == (0.25, 2)
    assert figures["balance.kl", "before"][0] == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert figures["balance.tv", "after"][0] == figures["balance.kl", "after"][0] == 0.0
    ruled_out = by_name(score_balance({"a": 1, "b": 1}, {"a": 1}, {"a": 1}))
    assert ruled_out["balance.kl", "before"][0] == math.inf
