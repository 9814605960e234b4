"""Solvers on a flow and a diffusion whose every path is known: data N(MU, S^2), noise N(0, 1)."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from goku_cli.errors import UsageError
from goku_cli.model.objective import ddpm
from goku_cli.model.objective.objective import Objective
from goku_cli.model.objective.process import prediction, sampling_times
from goku_cli.model.objective.shift import ShiftLaw
from goku_cli.model.sampling.solvers import SOLVERS, check_solver, solve

MU, S = 1.5, 0.4
FLOW = Objective()
DATA = Objective(predicts="data")
PLAIN = ShiftLaw(1.0, spatial=0.0, temporal=0.0)
OF_FLOWS = [name for name, solver in SOLVERS.items() if solver.flow]
X_0 = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def velocity(x, t):
    return MU + (t * S**2 - (1 - t)) / (t**2 * S**2 + (1 - t) ** 2) * (x - t * MU)


def grid(steps: int) -> torch.Tensor:
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def end(name: str, times: torch.Tensor, objective: Objective = FLOW, field=velocity, x_0=X_0) -> torch.Tensor:
    *_, x_1 = solve(objective, name, field, x_0, times)
    return x_1


def error(name: str, steps: int) -> float:
    return float((end(name, grid(steps)) - (MU + S * X_0)).abs().max())


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2)])
def test_order_of_convergence(name, order):
    # The Gaussian flow is too kind to the midpoint method, which has order 3 there; dx/dt = (1 + t) x is not.
    coarse, fine = (
        (end(name, grid(steps), field=lambda x, t: (1 + t) * x) - math.exp(1.5) * X_0).abs().max()
        for steps in (160, 320)
    )
    assert float(coarse / fine) == pytest.approx(2**order, rel=0.05)
    assert error(name, 160) / error(name, 320) > 0.95 * 2**order


@pytest.mark.parametrize("name", [name for name in OF_FLOWS if name != "euler"])
def test_better_than_euler_for_the_same_evaluations(name):
    for evaluations in (10, 20, 40):
        assert error(name, evaluations // SOLVERS[name].evaluations) < error("euler", evaluations) / 2


@pytest.mark.parametrize("name", OF_FLOWS)
def test_samples_with_times_of_their_own_end_as_each_alone(name):
    shapes = [(4, 1, 6, 10), (4, 9, 60, 104)]
    times_SB = sampling_times(FLOW, 8, shapes)
    mixed = end(name, times_SB[:, [0, 1, 0, 1, 1, 0], None])
    for column, rows in enumerate([[0, 2, 5], [1, 3, 4]]):
        alone = end(name, times_SB[:, [column]], x_0=X_0[rows])
        torch.testing.assert_close(mixed[rows], alone)


@pytest.mark.parametrize("name", OF_FLOWS)
def test_every_step_is_yielded_and_the_dtype_kept(name):
    steps = list(solve(FLOW, name, lambda x, t: velocity(x, t.to(x)), X_0.float(), grid(5)))
    assert [x.dtype for x in steps] == [torch.float32] * 5


def test_dpm_is_that_of_diffusers_on_its_own_grid():
    theirs = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    theirs.set_timesteps(12)
    theirs.set_begin_index(0)
    times = 1 - theirs.sigmas
    x, x_0 = X_0.float(), X_0.float()
    for t, step in zip(times[:-1], theirs.timesteps, strict=True):
        x = theirs.step(-velocity(x, t), step, x).prev_sample
    torch.testing.assert_close(end("dpm++", times, x_0=x_0), x, atol=1e-5, rtol=1e-5)


def exact_ddpm(objective: Objective):
    def field(x, t):
        level = ddpm.alpha_bar(objective.schedule, t)
        a, s = level.sqrt(), (1 - level).sqrt()
        x_0 = s * (x - a * MU) / (a**2 * S**2 + s**2)
        if objective.kind == "ddpm-eps":
            return x_0
        return a * x_0 - s * (MU + a * S**2 * (x - a * MU) / (a**2 * S**2 + s**2))

    return field


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("kind", ["ddpm-v", "ddpm-eps"])
def test_ddim_carries_noise_to_the_datas_distribution(kind, schedule):
    objective = Objective(kind, schedule)
    x_0 = torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_1 = end("ddim", grid(400), objective, exact_ddpm(objective), x_0)
    assert (float(x_1.mean()), float(x_1.std())) == (pytest.approx(MU, abs=0.01), pytest.approx(S, abs=0.01))


@pytest.mark.parametrize("name", OF_FLOWS)
def test_flows_carry_noise_to_the_datas_distribution(name):
    x_0 = torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_1 = end(name, grid(200), x_0=x_0)
    assert (float(x_1.mean()), float(x_1.std())) == (pytest.approx(MU, abs=0.01), pytest.approx(S, abs=0.01))


def data(x, t):
    """The exact data's mean, as what a solver integrates."""
    return prediction(DATA, MU + t * S**2 / (t**2 * S**2 + (1 - t) ** 2) * (x - t * MU), x, t)


@pytest.mark.parametrize("name", [name for name in OF_FLOWS if not SOLVERS[name].reaches_data])
def test_predicted_data_are_drawn_as_by_the_velocity(name):
    torch.testing.assert_close(end(name, grid(8), DATA, data), end(name, grid(8)))


def test_heun_goes_all_the_way_to_predicted_data():
    """They are x itself at t = 1, where the velocity is lost; half of the last step would be left."""
    *steps, last = solve(DATA, "heun", data, X_0, grid(8))
    assert len(steps) == 7
    by_velocity = list(solve(FLOW, "heun", velocity, X_0, grid(8)))
    torch.testing.assert_close(steps, by_velocity[:7])
    torch.testing.assert_close(last, steps[-1] + velocity(steps[-1], 7 / 8) / 8)
    assert len(list(solve(DATA, "heun", data, X_0, grid(1)))) == 1


@pytest.mark.parametrize(("kind", "theirs"), [("ddpm-v", "v_prediction"), ("ddpm-eps", "epsilon")])
def test_ddim_is_that_of_diffusers(kind, theirs):
    scheduler = DDIMScheduler(clip_sample=False, prediction_type=theirs, timestep_spacing="trailing")
    scheduler.set_timesteps(20)
    outputs = torch.randn(20, *X_0.shape, generator=torch.Generator().manual_seed(1))
    x = X_0.float()
    for step, output in zip(scheduler.timesteps, outputs, strict=True):
        x = scheduler.step(output, step, x).prev_sample
    ours = iter(outputs)
    x_1 = end("ddim", grid(20), Objective(kind), lambda x, t: next(ours), X_0.float())
    torch.testing.assert_close(x_1, x, rtol=1e-3, atol=1e-3)


def test_solvers_and_objectives_must_fit():
    with pytest.raises(UsageError, match='did you mean "heun"'):
        check_solver("huen")
    with pytest.raises(UsageError, match="--solver ddim"):
        end("euler", grid(2), Objective("ddpm-v"))
    with pytest.raises(UsageError, match="--solver euler or heun or midpoint or unipc"):
        end("ddim", grid(2))
