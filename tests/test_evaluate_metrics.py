"""Clip metrics, intervals and distances, on cases whose answer is known otherwise."""

import cv2
import numpy as np
import pytest
import scipy

from goku_cli.errors import Fault, GokuError
from goku_cli.evaluate import selftest
from goku_cli.evaluate.bootstrap import interval
from goku_cli.evaluate.clips import video
from goku_cli.evaluate.clips.metrics import METRICS, scores, title
from goku_cli.evaluate.clips.motion_agreement import motion_agreement
from goku_cli.evaluate.sets import features
from goku_cli.evaluate.sets.distribution import distances, features_of
from goku_cli.evaluate.sets.frechet import Normal, frechet, kid
from goku_cli.evaluate.shapes.scores import score_sample
from goku_cli.media.motion.flow import optical_flow
from goku_cli.media.motion.motion import asked_motion, with_motion_score
from goku_cli.stage import Quiet

ROW = {"frames": 9, "height": 64, "width": 96, "fps": 8.0}


def textured(shifts, height=64, width=96):
    """Frames of a soft random picture, each moved by so many pixels to the right."""
    noise = np.random.default_rng(0).normal(128, 60, (height, 2 * width)).astype(np.float32)
    wide = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)
    return np.stack([np.repeat(np.roll(wide, s, axis=1)[:, :width, None], 3, axis=2) for s in shifts])


STILL, STEADY, JUMPY = textured([0] * 9), textured(range(0, 27, 3)), textured([0, 6, 0, 9, 3, 12, 2, 8, 0])


def test_a_still_clip_does_not_move_and_an_image_has_no_movement():
    known = scores(METRICS, STILL, ROW)
    assert known == pytest.approx({
        "video.as_asked": 1, "video.flicker": 1, "video.moves_dis": 0, "video.motion_score": 0,
        "video.warp_error_dis": 0, "video.acceleration_dis": 0, "video.black_share": 0, "video.frozen_share": 1,
        "video.ssim_first": 1, "video.sharpness": known["video.sharpness"],
    })  # fmt: skip
    image = scores(METRICS, STILL[:1], ROW)
    assert {name for name, value in image.items() if value is not None} == {
        "video.as_asked", "video.sharpness", "video.black_share",
    }  # fmt: skip


def test_steady_movement_is_smooth_and_of_the_size_that_it_has():
    # 3 pixels a frame of 64 rows are 3 * 2 * 480 / 64 in a quarter of a second at the reference size.
    assert video.motion_score(STEADY, 8.0, ROW) == pytest.approx(45, rel=0.1)
    assert video.acceleration_dis(STEADY, 8.0, ROW) < 0.2 * video.acceleration_dis(JUMPY, 8.0, ROW)
    pixels = np.abs(np.diff(STEADY[..., 0].astype(float), axis=0)).mean() / 255
    assert video.warp_error_dis(STEADY, 8.0, ROW) < 0.2 * pixels


def test_the_motion_score_is_by_time_whatever_the_frame_rate():
    double = textured(np.arange(0, 27, 1.5).astype(int))
    assert video.motion_score(double, 16.0, ROW) == pytest.approx(video.motion_score(STEADY, 8.0, ROW), rel=0.1)


def test_black_frames_are_counted():
    assert video.black_share(np.concatenate([STEADY[:3] * 0, STEADY[:6]]), 8.0, ROW) == pytest.approx(1 / 3)


@pytest.mark.parametrize("size", [(24, 80), (8, 8), (20, 100)])
def test_flow_of_tiny_pictures_does_not_end_the_process(size):
    before, after = textured([0, 1], *size)[..., 0]
    assert optical_flow(before, after).shape == (*size, 2)


def inverted(frames, fps, row):
    return float("nan")


def test_a_users_own_metric_works_by_name_and_keeps_it():
    name = "test_evaluate_metrics:inverted"
    assert title(name) == name
    with pytest.raises(Fault, match="gave nan"):
        scores([name], STILL, ROW)


def test_asked_and_measured_motion_agree_by_rank():
    texts = [with_motion_score("A dog.", m) for m in (1, 5, 9, 30)]
    assert [asked_motion(text) for text in texts] == [1, 5, 9, 30]
    assert asked_motion("a motion score: 3. And more") is None
    rows = [{"id": str(i), "prompt": "A dog.", "text": text} for i, text in enumerate(texts)]
    known = {str(i): {"video.motion_score": x} for i, x in enumerate([2.0, 4.0, 20.0, 10.0])}
    by_rank, apart = motion_agreement(rows, known)
    assert by_rank.value == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert (apart.value, apart.n) == (pytest.approx((1 + 1 + 11 + 20) / 4), 4)
    assert motion_agreement(rows[:2], known) == []


def test_intervals_are_those_of_scipy():
    values = np.random.default_rng(1).exponential(size=50)
    theirs = scipy.stats.bootstrap([values], np.mean, method="percentile", n_resamples=5000, rng=0).confidence_interval
    assert interval(values) == pytest.approx(theirs, abs=0.03)
    assert interval([1.0]) == (None, None)
    assert interval([2.0, 2.0]) == (2.0, 2.0)


def test_frechet_distance_is_the_closed_form_and_that_of_sqrtm():
    rng = np.random.default_rng(0)
    a = Normal(np.array([0.0, 1.0]), np.diag([4.0, 9.0]))
    b = Normal(np.array([3.0, 1.0]), np.diag([1.0, 16.0]))
    assert frechet(a, b) == pytest.approx(9 + (2 - 1) ** 2 + (3 - 4) ** 2)
    x, y = rng.standard_normal((80, 12)), rng.standard_normal((90, 12)) @ rng.standard_normal((12, 12))
    a, b = Normal.of(x), Normal.of(y)
    root = scipy.linalg.sqrtm(a.covariance_DD @ b.covariance_DD).real
    theirs = np.square(a.mean_D - b.mean_D).sum() + np.trace(a.covariance_DD + b.covariance_DD - 2 * root)
    assert frechet(a, b) == pytest.approx(theirs)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    with pytest.raises(GokuError, match="at least 12 clips"):
        Normal.of(x[:11])


def test_kernel_distance_is_the_sum_over_pairs():
    x, y = np.random.default_rng(0).standard_normal((2, 6, 3))

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs) / 30
    across = sum(k(x[i], y[j]) for i in range(6) for j in range(6)) / 36
    assert kid(x, y) == pytest.approx(within - 2 * across)


def test_what_is_neither_dark_nor_bright_has_no_appearance():
    """The net has no biases and takes pixels from -1 to 1, so that grey gives nothing, and black and white as much."""
    grey, black, white = (np.abs(features.appearance(np.full((3, 8, 8, 3), x, np.uint8))) for x in (128, 0, 255))
    assert grey.max() < 0.01 < min(black.max(), white.max()) / 10


def test_features_are_as_many_as_clips_are_asked_for():
    assert {kind: len(x) for kind, x in features_of(STEADY).items()} == features.DIMS


def test_movement_is_told_by_its_direction_and_the_quarter_it_is_in():
    flow = np.zeros((4, 4, 2))
    flow[:2, 2:] = (3, 4)  # down to the right, at an angle of 53 degrees, in the upper right quarter
    found = features._directions(flow).reshape(2, 2, 8)
    assert found[0, 1, 5] == pytest.approx(5) and found.sum() == pytest.approx(5)


def test_distances_come_as_a_pair_with_their_floor():
    rng = np.random.default_rng(0)
    real = {"appearance": rng.standard_normal((40, 4)), "motion": rng.standard_normal((40, 5))}
    figures = distances({"appearance": real["appearance"][::2] + 1, "motion": real["motion"][::2]}, real)
    value = {(f.metric, f.tag): f.value for f in figures}
    assert value["distance.appearance_fd", "all"] == pytest.approx(4)
    assert value["distance.motion_fd", "all"] == pytest.approx(0, abs=1e-9)
    assert value["distance.motion_fd", "floor"] > 0
    assert {f.n for f in figures} == {20}


def test_selftest_sees_what_spoils_a_clip_and_says_which_metric_does_not():
    expected = [one for one in selftest.EXPECTED if one.metric in ("video.flicker", "shapes.motion", "shapes.strict")]
    assert selftest.selftest(["flicker"], Quiet(), expected=expected, compared=0).wrong == []
    blind = [selftest.Response("video.sharpness", "shuffled", 50.0)]
    (wrong,) = selftest.selftest(["sharpness"], Quiet(), expected=blind, compared=0).wrong
    assert wrong.startswith("video.sharpness went from") and "shuffled" in wrong


def test_selftest_expects_nothing_of_a_metric_that_nobody_measures():
    """What is not measured cannot be wrong, so that a line with a mistake in it would hold for good."""
    ((frames, asked), *_) = selftest.scenes(0, 1)
    measured = {*scores(METRICS, frames, ROW), *score_sample(frames, asked, None, 8.0)}
    measured |= {f"distance.{kind}_fd" for kind in features.DIMS}
    assert {one.metric for one in selftest.EXPECTED} <= measured
    assert {one.spoiled for one in selftest.EXPECTED} < selftest.SPOILED.keys()


def test_frozen_clips_look_real_and_do_not_move_so():
    real = selftest._features(selftest.scenes(1, 140))
    frozen = selftest._features(selftest.scenes(2, 70), selftest.SPOILED["frozen"])
    value = {f"{f.metric}/{f.tag}": f.value for f in distances(frozen, real)}
    assert value["distance.motion_fd/all"] > 5 * value["distance.motion_fd/floor"]
    assert value["distance.appearance_fd/all"] < 4 * value["distance.appearance_fd/floor"]
