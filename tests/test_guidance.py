"""Guidance, its intervals, cached texts and cached steps, on a small random model."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from drawable import random_model

from goku_cli.model.network.packing import pack, unpack
from goku_cli.model.network.transformer import Goku
from goku_cli.model.objective.flow import guide
from goku_cli.model.objective.noise import noise
from goku_cli.model.objective.objective import Objective
from goku_cli.model.objective.process import sampling_times
from goku_cli.model.objective.shift import ShiftLaw
from goku_cli.model.sampling.guidance import Condition, Guidance, draw
from goku_cli.model.sampling.solvers import SOLVERS

CPU = torch.device("cpu")
PLAIN = Guidance(steps=4, strength=3.0, solver="euler")
SHAPES = [(8, 3, 6, 10), (8, 1, 4, 4)]


@pytest.fixture(scope="module")
def model():
    return random_model(image_condition=True).double()


@pytest.fixture(scope="module")
def conditions():
    torch.manual_seed(1)
    frame = torch.randn(8, 1, 6, 10, dtype=torch.float64)
    empty = torch.randn(2, 96, dtype=torch.float64)
    texts = [torch.randn(n, 96, dtype=torch.float64) for n in (5, 3)]
    return [Condition(texts[0], empty, first_frame=frame), Condition(texts[1], empty)]


def start():
    return [noise(shape, seed).double() for seed, shape in enumerate(SHAPES)]


def drawn(model, conditions, how):
    return draw(model, Objective(), start(), conditions, how, CPU).latents


def by_hand(model, conditions, how, first_step=0):
    """Euler, one sample at a time, the network called once for each branch: with text and frame, frame, neither."""
    found = []
    for x, condition in zip(start(), conditions, strict=True):
        times = sampling_times(Objective(), how.steps, [tuple(x.shape)])[:, 0]
        for t, next_t in list(itertools.pairwise(times))[first_step:]:
            full, framed, nothing = (
                unpack(model(pack([x], [text], first_frames=[frame]), t[None]), [tuple(x.shape)])[0]
                for text, frame in (
                    (condition.text, condition.first_frame), (condition.empty, condition.first_frame),
                    (condition.empty, None),
                )
            )  # fmt: skip
            v = guide(full, framed, how.strength)
            if how.image_strength:
                v = nothing + how.image_strength * (framed - nothing) + how.strength * (full - framed)
            x = x + (next_t - t) * v
        found.append(x)
    return found


def close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


@torch.no_grad()
def test_a_pack_of_both_branches_with_kept_text_keys_is_each_sample_by_hand(model, conditions):
    close(drawn(model, conditions, PLAIN), by_hand(model, conditions, PLAIN))


@torch.no_grad()
def test_text_and_first_frame_guide_each_with_its_own_strength(model, conditions):
    how = replace(PLAIN, image_strength=1.5)
    close(drawn(model, conditions, how), by_hand(model, conditions, how))


@torch.no_grad()
def test_zero_init_starts_where_the_first_steps_would_have_ended(model, conditions):
    how = replace(PLAIN, zero_init=1)
    close(drawn(model, conditions, how), by_hand(model, conditions, how, first_step=1))


@pytest.mark.parametrize("solver", [name for name, row in SOLVERS.items() if row.flow])
def test_nothing_moves_in_any_silent_step(model, conditions, solver):
    """Also when a solver looks at a step's end, which for the last silent one is the first time that is not."""
    asked = []
    twin = copy.deepcopy(model)
    twin.register_forward_pre_hook(lambda _, given: asked.append(given[1].min()))
    steps, how = 4, replace(PLAIN, steps=4, zero_init=2, solver=solver)
    drawn(twin, conditions, how)
    awake = sampling_times(Objective(), steps, SHAPES)[2].min()
    assert min(asked) == pytest.approx(float(awake), abs=1e-6)
    assert len(asked) == 2 * SOLVERS[solver].evaluations


def test_equal_strengths_of_text_and_image_lead_away_from_neither(model, conditions):
    apart = drawn(model, conditions, replace(PLAIN, image_strength=3.0))
    # Without image guidance the second branch keeps the frame, so only the sample without one agrees.
    together = drawn(model, conditions, PLAIN)
    close(apart[1:], together[1:])
    assert not torch.allclose(apart[0], together[0], atol=1e-3)


def test_there_is_no_guidance_outside_its_interval(model, conditions):
    none = drawn(model, conditions, replace(PLAIN, strength=1.0))
    close(drawn(model, conditions, replace(PLAIN, interval=(0.999, 1.0))), none)
    some = drawn(model, conditions, replace(PLAIN, interval=(0.2, 1.0)))
    assert not torch.allclose(some[0], none[0], atol=1e-3)


def test_a_step_cache_is_exact_at_zero_and_skips_all_but_the_first_block_without_bound(model, conditions):
    exact = draw(model, Objective(), start(), conditions, PLAIN, CPU)
    careful = draw(model, Objective(), start(), conditions, replace(PLAIN, cache=1e-12), CPU)
    bold = draw(model, Objective(), start(), conditions, replace(PLAIN, cache=1e9), CPU)
    close(careful.latents, exact.latents)
    assert (careful.skipped, careful.evaluations, bold.skipped) == (0, 4, 3)


class OfData(Goku):
    """A velocity network that says where its velocity leads."""

    def forward(self, pack, t_B, cache=None):
        return pack.tokens + pack.vision.spread((1 - t_B)[:, None]) * super().forward(pack, t_B, cache)


@pytest.mark.parametrize(
    "how",
    [
        {}, {"strength": 1.0}, {"image_strength": 2.0}, {"interval": (0.2, 0.6)}, {"zero_init": 1}, {"cache": 1e9},
        {"solver": "midpoint"}, {"solver": "unipc"},
    ],
    ids=str,
)  # fmt: skip
def test_predicted_data_are_drawn_as_by_the_velocity_that_leads_to_them(model, conditions, how):
    twin = copy.deepcopy(model)
    twin.__class__ = OfData
    settings, objective = replace(PLAIN, **how), Objective(shift=ShiftLaw(60.0))  # 4.8 and 1.9: each its own times
    wanted = draw(model, objective, start(), conditions, settings, CPU)
    found = draw(twin, replace(objective, predicts="data"), start(), conditions, settings, CPU)
    close(found.latents, wanted.latents)
    assert (found.evaluations, found.skipped) == (wanted.evaluations, wanted.skipped)


def test_predicted_data_are_guided_in_float32_where_the_network_gives_bfloat16(conditions):
    """The last step ends at the guided data, to which bfloat16 would leave a few hundredths."""
    model = random_model(image_condition=True)
    x_0 = [x.float() for x in start()]
    given = [replace(c, text=c.text.float(), empty=c.empty.float(), first_frame=first_of(c)) for c in conditions]
    how = replace(PLAIN, steps=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = draw(model, Objective(predicts="data"), x_0, given, how, CPU).latents
        branches = [
            pack(x_0, [text(c) for c in given], first_frames=[c.first_frame for c in given])
            for text in (lambda c: c.text, lambda c: c.empty)
        ]
        outputs = [model(branch, torch.zeros(2)) for branch in branches]
    assert {x.dtype for x in outputs} == {torch.bfloat16} and {x.dtype for x in found} == {torch.float32}
    # One pack of both branches rounds as each alone, but for single outputs.
    wanted = unpack(guide(*(x.float() for x in outputs), how.strength), SHAPES)
    assert all((a - b).abs().median() < 1e-5 for a, b in zip(found, wanted, strict=True))


def first_of(condition):
    return None if condition.first_frame is None else condition.first_frame.float()


def test_classes_are_drawn_by_their_label():
    model = random_model(classes=3, text_dim=0).double()
    nothing = torch.zeros(0, 0)
    latents = draw(
        model, Objective(), [noise(SHAPES[0], 0).double()] * 2, [Condition(nothing, nothing, i) for i in (0, 2)],
        PLAIN, CPU,
    ).latents  # fmt: skip
    assert not torch.allclose(*latents, atol=1e-3)
