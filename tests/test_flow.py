"""The mathematics of rectified flow against closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goku_cli.model import flow


def test_time_runs_from_noise_to_data():
    x_0, x_1 = torch.randn(4, 3), torch.randn(4, 3)
    assert torch.equal(flow.interpolate(x_0, x_1, torch.tensor(0.0)), x_0)
    assert torch.equal(flow.interpolate(x_0, x_1, torch.tensor(1.0)), x_1)
    step = flow.interpolate(x_0, x_1, torch.tensor(0.6)) - flow.interpolate(x_0, x_1, torch.tensor(0.5))
    torch.testing.assert_close(step / 0.1, flow.velocity(x_0, x_1), rtol=1e-4, atol=1e-4)


def test_euler_is_exact_on_a_straight_line():
    x_0, x_1 = torch.randn(5), torch.randn(5)
    *_, end = flow.euler(lambda x, t: flow.velocity(x_0, x_1), x_0, flow.time_grid(3, shift=3.0).float())
    torch.testing.assert_close(end, x_1)


def test_euler_converges_to_the_exponential():
    *_, end = flow.euler(lambda x, t: x, torch.ones(1, dtype=torch.float64), flow.time_grid(2000))
    assert float(end) == pytest.approx(torch.e, rel=1e-3)


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
