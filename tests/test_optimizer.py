"""What decays, what is left alone, and the learning rate along a run."""

from dataclasses import replace

import pytest
import torch
from transformers_small import CONFIG, WAN, awake

from goku_cli.train.distributed.optimizer import learning_rate, make_optimizer
from goku_cli.train.recipe import TrainConfig

SETTINGS = TrainConfig(steps=100, tokens_per_step=1, lr=0.1, weight_decay=0.5, warmup=10)


def stepped(settings, guard=True):
    """A model's weights before and after a step whose gradients are zero, so that only decay changes them."""
    model = awake(replace(CONFIG, **WAN), torch.float32)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, settings)
    optimizer.guard = lambda: guard
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return before, dict(model.named_parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_matrices_decay_and_biases_and_norms_do_not(optimizer):
    before, after = stepped(replace(SETTINGS, optimizer=optimizer))
    vectors = [name for name in before if "norm" in name or name.endswith("bias")]
    assert all(before[name].ndim == 1 for name in vectors) and len(vectors) > 10
    for name, value in before.items():
        share = 1.0 if name in vectors else 1 - 0.1 * 0.5
        torch.testing.assert_close(after[name], share * value, msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_that_the_guard_forbids_changes_nothing(optimizer):
    before, after = stepped(replace(SETTINGS, optimizer=optimizer), guard=False)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", {0: 0.01, 4: 0.05, 9: 0.1, 50: 0.1, 99: 0.1}),
        ("linear", {0: 0.01, 9: 0.1, 60: 0.1, 80: 0.05, 90: 0.025, 100: 0.0}),
        ("cosine", {0: 0.01, 9: 0.1, 60: 0.1, 80: 0.05, 90: 0.1 * (1 - 0.5**0.5) / 2, 100: 0.0}),
    ],
)
def test_rates_rise_stay_and_fall(schedule, rates):
    settings = replace(SETTINGS, schedule=schedule, decay=0.4)
    assert {step: learning_rate(settings, step) for step in rates} == pytest.approx(rates)
