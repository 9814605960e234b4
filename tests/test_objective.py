"""Times and targets that training and sampling share, against closed forms and diffusers."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling
from scipy import stats

from goku_cli.errors import UsageError
from goku_cli.model.objective import ddpm, process
from goku_cli.model.objective.objective import Density, Objective
from goku_cli.model.objective.shift import ShiftLaw
from goku_cli.recipe import build, changes
from goku_cli.sample.generate import objective_of
from goku_cli.train.recipe import Recipe

DATA = Objective(predicts="data")
PLAIN = ShiftLaw(1.0, spatial=0.0, temporal=0.0)
IMAGE, VIDEO = (4, 1, 6, 10), (4, 9, 60, 104)
U = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)


def times(density: Density) -> torch.Tensor:
    return process.training_times(Objective(density=density, shift=PLAIN), U, [IMAGE] * len(U))


def test_logit_normal_has_the_normal_cdf_of_its_logit():
    t = times(Density("logit-normal", loc=-0.5, scale=0.7))
    torch.testing.assert_close(torch.from_numpy(stats.norm.cdf(torch.logit(t), -0.5, 0.7)), U)


def test_uniform_times_are_the_draws():
    assert torch.equal(times(Density("uniform")), U)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 1.29, 1.75])
def test_mode_rises_from_noise_to_data(scale):
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    objective = Objective(density=Density("mode", scale=scale), shift=PLAIN)
    torch.testing.assert_close(process.training_times(objective, ends, [IMAGE, IMAGE]), ends)
    assert (times(Density("mode", scale=scale)).diff() > 0).all()


@pytest.mark.parametrize(
    ("density", "theirs"),
    [
        (Density("logit-normal", 0.4, 0.8), {"weighting_scheme": "logit_normal", "logit_mean": -0.4, "logit_std": 0.8}),
        (Density("mode", scale=1.29), {"weighting_scheme": "mode", "mode_scale": 1.29}),
        (Density("uniform"), {"weighting_scheme": "none"}),
    ],
)
def test_densities_are_those_of_diffusers(density, theirs):
    generator = torch.Generator().manual_seed(0)
    settings = {"logit_mean": None, "logit_std": None, "mode_scale": None} | theirs
    level = compute_density_for_timestep_sampling(batch_size=200_000, generator=generator, **settings)
    torch.testing.assert_close((1 - level.double()).quantile(U), times(density), atol=0.004, rtol=0)


def test_each_sample_is_shifted_by_its_own_size_in_training_as_in_sampling():
    objective = Objective(density=Density("uniform"))
    at = torch.tensor([0.5, 0.5], dtype=torch.float64)
    trained = process.training_times(objective, at, [IMAGE, VIDEO])
    sampled = process.sampling_times(objective, 2, [IMAGE, VIDEO])
    assert torch.equal(sampled[1], trained)
    assert sampled[[0, -1]].tolist() == [[0, 0], [1, 1]]
    level_ratio = (1 - trained) / trained  # a shift multiplies noise / signal, which is 1 at t = 0.5
    assert level_ratio.tolist() == pytest.approx([objective.shift.of(IMAGE), objective.shift.of(VIDEO)])


def test_no_steps_is_refused():
    with pytest.raises(UsageError, match="at least 1"):
        process.sampling_times(Objective(), 0, [IMAGE])


@pytest.mark.parametrize("t", [0.05, 0.3, 0.8])
def test_the_exact_velocity_has_the_conditional_variance_as_its_loss(t):
    """For data N(mu, s^2) the least flow loss at t is Var(x_1 - x_0 | x_t) = s^2 / (t^2 s^2 + (1 - t)^2)."""
    mu, s = 1.5, 0.4
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.randn(400_000, generator=generator, dtype=torch.float64)
    x_1 = mu + s * torch.randn(400_000, generator=generator, dtype=torch.float64)
    at = torch.tensor(t, dtype=torch.float64)
    x_t = process.corrupt(Objective(), x_0, x_1, at)
    variance = t**2 * s**2 + (1 - t) ** 2
    exact = mu + (t * s**2 - (1 - t)) / variance * (x_t - t * mu)
    loss = (process.target(Objective(), x_0, x_1, at) - exact).square().mean()
    assert float(loss) == pytest.approx(s**2 / variance, rel=0.01)
    # The exact data, their mean given x_t, are the same field, and cost the same.
    mean = mu + t * s**2 / variance * (x_t - t * mu)
    field = process.prediction(DATA, mean, x_t, at)
    torch.testing.assert_close(field, exact)
    same = (process.target(DATA, x_0, x_1, at) - field).square().mean()
    assert float(same) == pytest.approx(float(loss), rel=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.7, 0.96, 0.999, 1.0])
def test_a_network_that_knows_the_data_costs_nothing_however_little_noise_is_left(t):
    x_0, x_1 = torch.randn(2, 1000)
    x_t = process.corrupt(DATA, x_0, x_1, torch.tensor(t))
    assert torch.equal(
        process.prediction(DATA, x_1, x_t, torch.tensor(t)), process.target(DATA, x_0, x_1, torch.tensor(t))
    )


@pytest.mark.parametrize("objective", [Objective(), Objective("ddpm-v"), Objective("ddpm-eps")])
def test_what_predicts_no_data_is_left_as_it_is(objective):
    output = torch.randn(3)
    assert process.prediction(objective, output, torch.randn(3), torch.tensor(0.3)) is output


@pytest.mark.parametrize(("schedule", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_ddpm_at_the_discrete_steps_is_that_of_diffusers(schedule, theirs):
    scheduler = DDPMScheduler(beta_schedule=theirs)
    steps = torch.arange(1000)
    t = 1 - (steps.double() + 1) / 1000
    torch.testing.assert_close(ddpm.alpha_bar(schedule, t).float(), scheduler.alphas_cumprod, rtol=2e-4, atol=0)
    x_0, x_1 = torch.randn(1000, 3), torch.randn(1000, 3)
    corrupted = process.corrupt(Objective("ddpm-v", schedule), x_0, x_1, t[:, None].float())
    torch.testing.assert_close(corrupted, scheduler.add_noise(x_1, x_0, steps), rtol=1e-3, atol=1e-4)
    v = process.target(Objective("ddpm-v", schedule), x_0, x_1, t[:, None].float())
    torch.testing.assert_close(v, scheduler.get_velocity(x_1, x_0, steps), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["ddpm-v", "ddpm-eps"])
def test_a_right_prediction_gives_back_noise_and_data(kind):
    x_0, x_1 = torch.randn(2, 5, dtype=torch.float64)
    level = torch.tensor(0.3, dtype=torch.float64)
    found = ddpm.ends(kind, ddpm.corrupt(x_0, x_1, level), ddpm.target(kind, x_0, x_1, level), level)
    torch.testing.assert_close(found, (x_0, x_1))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "ddpm-eqs"}, 'did you mean "ddpm-eps"'),
        ({"schedule": "cosin"}, 'did you mean "cosine"'),
        ({"density": {"name": "logitnormal"}}, 'did you mean "logit-normal"'),
        ({"density": {"scale": 0.0}}, "above 0"),
        ({"density": {"name": "mode", "scale": 2.0}}, "from -1 to 1.752"),
        ({"predicts": "dta"}, 'did you mean "data"'),
        ({"kind": "ddpm-eps", "predicts": "data"}, 'predicts = "data" is for kind = "flow", not "ddpm-eps"; leave'),
        ({"shift": {"base": -1.0}}, "above 0"),
        ({"shift": {"spatail": 0.0}}, 'did you mean "spatial"'),
    ],
)
def test_a_recipes_bad_objective_is_told_in_one_line(table, message):
    recipe = {"kind": "flow", "train": {"steps": 1, "tokens_per_step": 1, "lr": 1.0}, "objective": table}
    with pytest.raises(UsageError, match=message) as error:
        build(Recipe, recipe, where="my.toml")
    assert "\n" not in str(error.value)


def test_a_recipe_that_does_not_say_what_is_predicted_learns_the_velocity_under_its_old_name():
    table = {"shift": {"base": 4.0, "spatial": 0.0}, "density": {"loc": -0.5}}
    for more in ({}, {"predicts": "velocity"}):
        objective = build(Objective, table | more, where="my.toml")
        assert objective.predicts == "velocity" and changes(objective) == table
    assert changes(build(Objective, {"predicts": "data"}, where="my.toml")) == {"predicts": "data"}


def test_a_checkpoint_from_before_there_was_a_choice_predicts_the_velocity():
    table = asdict(Objective(shift=ShiftLaw(2.0)))
    del table["predicts"]
    assert objective_of({"kind": "flow", "objective": table}, Path("step-000001")) == Objective(shift=ShiftLaw(2.0))


def test_a_checkpoints_config_gives_the_objective_back():
    objective = Objective("ddpm-v", "cosine", Density("mode", scale=1.29), ShiftLaw(2.0))
    config = {"kind": "flow", "objective": json.loads(json.dumps(asdict(objective)))}
    assert objective_of(config, Path("step-000001")) == objective
    config["objective"] = json.loads(json.dumps(asdict(DATA)))
    assert objective_of(config, Path("step-000001")) == DATA
    with pytest.raises(UsageError, match="step-000001 was made by an older goku; train again"):
        objective_of({"kind": "flow", "flow": {"shift": 4.0}}, Path("step-000001"))


def test_ddpm_is_trained_at_uniform_times_unless_it_is_told_otherwise():
    for objective, expected in (
        (Objective(), torch.sigmoid(torch.special.ndtri(U))),
        (Objective("ddpm-eps"), U),
        (Objective("ddpm-v", "cosine"), U),
        (Objective("ddpm-v", density=Density("logit-normal")), torch.sigmoid(torch.special.ndtri(U))),
    ):
        times = process.training_times(replace(objective, shift=PLAIN), U, [IMAGE] * len(U))
        torch.testing.assert_close(times, expected)
