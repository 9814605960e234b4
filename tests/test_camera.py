"""The camera's movement is told from the picture's: every direction, at several speeds, with a thing in front."""

import numpy as np
import pytest
from films import texture
from warps import AXES, FPS, seen

from goku_cli.media.motion.camera import Camera, measure_camera

STILL = texture(3, 480, 640)


@pytest.mark.parametrize("thing", [False, True], ids=["", "thing"])
@pytest.mark.parametrize("name", AXES)
def test_every_direction_at_every_speed(name, thing):
    for speed in (0.03, 0.1, 0.4, 0.6):
        rates = tuple(speed * part for part in AXES[name])
        camera = measure_camera(seen(STILL, rates, frames=9, thing=thing), FPS)
        assert camera is not None and camera.movements == (name,)
        found = (camera.pan, camera.tilt, camera.zoom, camera.roll)
        assert found == pytest.approx(rates, abs=0.01 + 0.05 * speed)


def test_a_still_camera_and_a_shaking_one():
    assert measure_camera(seen(STILL, (0, 0, 0, 0), thing=True), FPS).movements == ("static",)
    rng = np.random.default_rng(1)
    frames = [seen(STILL, (x, y, 0, 0), frames=2)[1] for x, y in rng.normal(0, 0.4, (16, 2))]
    assert measure_camera(frames, FPS).movements == ("handheld",)
    there_and_back = seen(STILL, (0.2, 0, 0, 0), frames=8) + seen(STILL, (-0.2, 0, 0, 0), frames=8)
    assert "pan left" not in measure_camera(there_and_back, FPS).movements


def test_two_movements_at_once():
    assert measure_camera(seen(STILL, (-0.2, 0.15, 0, 0)), FPS).movements == ("pan left", "tilt down")


def test_what_cannot_be_followed_is_not_known():
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (90, 160), np.uint8) for _ in range(8)]
    flat = [np.full((90, 160), 128, np.uint8)] * 8
    assert measure_camera(noise, FPS) is None and measure_camera(flat, FPS) is None
    assert measure_camera(noise[:1], FPS) is None


@pytest.mark.parametrize(
    ("camera", "sentence"),
    [
        (Camera(), "the camera stands still"),
        (Camera(pan=-0.2), "the camera pans left"),
        (Camera(zoom=0.1), "the camera zooms in slowly"),
        (Camera(pan=0.9, tilt=-0.8), "the camera pans right and tilts up quickly"),
        (Camera(roll=0.5), "the camera rolls clockwise"),
        (Camera(shake=0.2), "the camera is held by hand"),
        (Camera(pan=0.2, steadiness=0.3), ""),
    ],
)
def test_sentences(camera, sentence):
    assert camera.sentence == sentence
