"""The mathematics of rectified flow against closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goku_cli.model.objective import ddpm, flow, process
from goku_cli.model.objective.objective import Objective


def test_time_runs_from_noise_to_data():
    x_0, x_1 = torch.randn(4, 3), torch.randn(4, 3)
    assert torch.equal(flow.interpolate(x_0, x_1, torch.tensor(0.0)), x_0)
    assert torch.equal(flow.interpolate(x_0, x_1, torch.tensor(1.0)), x_1)
    step = flow.interpolate(x_0, x_1, torch.tensor(0.6)) - flow.interpolate(x_0, x_1, torch.tensor(0.5))
    torch.testing.assert_close(step / 0.1, flow.velocity(x_0, x_1), rtol=1e-4, atol=1e-4)


@given(st.floats(0, 1), st.floats(0.1, 20))
def test_shift_is_the_noise_levels_shift_in_reversed_time(t, s):
    u = 1 - t
    assert float(flow.shift_time(torch.tensor(t, dtype=torch.float64), s)) == pytest.approx(
        1 - s * u / (1 + (s - 1) * u), abs=1e-9
    )


def test_shift_agrees_with_diffusers():
    diffusers = pytest.importorskip("diffusers")
    ours = flow.shift_time(1 - torch.linspace(1, 1 / 1000, 1000), 3.0)
    theirs = torch.flip(1 - diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas, dims=(0,))
    torch.testing.assert_close(ours.flip(0).sort().values, theirs.sort().values, atol=1e-5, rtol=0)


def test_guidance_of_one_is_the_conditional_velocity():
    a, b = torch.randn(3), torch.randn(3)
    torch.testing.assert_close(flow.guide(a, b, 1.0), a)
    torch.testing.assert_close(flow.guide(a, b, 0.0), b)


def test_guidance_by_text_and_by_image_have_their_own_strengths():
    full, image, nothing = torch.eye(3)
    found = flow.guide_apart(full, image, nothing, text_guidance=5.0, image_guidance=1.5)
    assert found.tolist() == [5.0, 1.5 - 5.0, 1.0 - 1.5]


@pytest.mark.parametrize("kind", ["flow", "ddpm-v"])
def test_guided_targets_are_the_guided_noise(kind):
    """Given x_t, guidance of what a network predicts is guidance of the noise that it implies."""
    objective = Objective(kind)
    x_t, t = torch.randn(3, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    scale = {"flow": (1 - t), "ddpm-v": (1 - ddpm.alpha_bar("linear", t)).sqrt()}[kind]
    signal = {"flow": t, "ddpm-v": ddpm.alpha_bar("linear", t).sqrt()}[kind]

    def predicted(x_0):
        return process.target(objective, x_0, (x_t - scale * x_0) / signal, t)

    a, b = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    torch.testing.assert_close(flow.guide(predicted(a), predicted(b), 4.0), predicted(flow.guide(a, b, 4.0)))


@pytest.mark.parametrize("t", [0.0, 0.5, 0.95, 0.99, 1.0])
def test_the_way_to_the_right_data_is_the_velocity_and_shrinks_with_the_noise_at_the_end(t):
    x_0, x_1 = torch.randn(2, 7, dtype=torch.float64)
    t = torch.tensor(t, dtype=torch.float64)
    found = flow.velocity_to(x_1, flow.interpolate(x_0, x_1, t), t)
    share = torch.ones_like(t) if t < 0.951 else (1 - t) / 0.05
    torch.testing.assert_close(found, share * flow.velocity(x_0, x_1))


def test_the_way_to_predicted_data_is_computed_in_float32_whatever_the_network_gives():
    x_1, x_t, t = torch.randn(64).bfloat16(), torch.randn(64).bfloat16(), torch.rand(64)
    wanted = (x_1.double() - x_t.double()) / (1 - t.double()).clamp(min=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        found = flow.velocity_to(x_1, x_t, t)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
