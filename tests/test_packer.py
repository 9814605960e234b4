"""The packer: every sample once, packs that fit, ranks that end together."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goku_cli.errors import UsageError
from goku_cli.model.network.flops import forward_flops, step_flops
from goku_cli.model.network.presets import model_config
from goku_cli.train.data.batching import advice, plan_step

lengths = st.lists(st.integers(1, 400), min_size=1, max_size=40)
GOKU_2B = model_config("2b", latent_channels=16, text_dim=2048)


def flat(planned):
    return [i for packs in planned.ranks for pack in packs for i in pack]


@given(lengths, st.integers(1, 5), st.sampled_from([0, 400, 900]))
def test_every_sample_is_in_one_pack_that_fits(tokens, ranks, most):
    costs = [n + n * n / 100 for n in tokens]
    planned = plan_step(costs, tokens, ranks, most)
    assert sorted(flat(planned)) == list(range(len(tokens)))
    assert len({len(packs) for packs in planned.ranks}) == 1
    assert all(not most or sum(tokens[i] for i in pack) <= most for packs in planned.ranks for pack in packs)
    assert 1 / ranks - 1e-9 <= planned.balance <= 1 + 1e-9
    assert planned == plan_step(costs, tokens, ranks, most)


@given(lengths, st.integers(2, 5))
def test_no_rank_has_much_more_than_its_share(tokens, ranks):
    """Graham's bound for list scheduling: the dearest rank is within one sample of the mean."""
    planned = plan_step(tokens, tokens, ranks, 0)
    loads = [sum(tokens[i] for pack in packs for i in pack) for packs in planned.ranks]
    assert max(loads) <= sum(tokens) / ranks + max(tokens) * (1 - 1 / ranks) + 1e-9


def test_a_sample_longer_than_a_pack_is_refused():
    with pytest.raises(UsageError, match="max_tokens"):
        plan_step([1.0, 2.0], [10, 20], 1, 15)


def mixed_lengths(count):
    """70 % images of 256 to 1,024 pixels in seven aspect ratios, 30 % clips of 17 to 97 frames at 288 and 480 lines."""
    rng = random.Random(0)
    ratios = [(1, 1), (3, 4), (4, 3), (9, 16), (16, 9), (2, 3), (3, 2)]
    for _ in range(count):
        if rng.random() < 0.7:
            side = rng.choice([256] * 5 + [512] * 3 + [1024] * 2)
            a, b = rng.choice(ratios)
            k = (side * side / (a * b)) ** 0.5
            yield max(1, round(a * k / 16)) * max(1, round(b * k / 16))
        else:
            frames = rng.choice([17, 33, 49, 65, 81, 97])
            height, width = rng.choice([(288, 512)] * 3 + [(480, 864)])
            yield (1 + (frames - 1) // 4) * (height // 16) * (width // 16)


def balance(tokens_per_step, ranks=8, steps=60):
    """Mean useful share of the steps' time; also that of packs of equal tokens, in the order drawn."""
    source = mixed_lengths(10**6)
    ours, by_tokens = [], []
    for _ in range(steps):
        tokens = []
        while sum(tokens) < tokens_per_step:
            tokens.append(next(source))
        costs = [step_flops(GOKU_2B, n, 256) for n in tokens]
        planned = plan_step(costs, tokens, ranks, 2 * 45056)
        loads = [sum(costs[i] for pack in packs for i in pack) for packs in planned.ranks]
        ours.append(sum(loads) / ranks / max(loads))
        assert planned.balance == pytest.approx(ours[-1])
        loads, spent = [0.0] * ranks, 0
        for n, cost in zip(tokens, costs, strict=True):
            loads[min(ranks - 1, spent * ranks // tokens_per_step)] += cost
            spent += n
        by_tokens.append(sum(loads) / ranks / max(loads))
    return sum(ours) / steps, sum(by_tokens) / steps


def test_ranks_end_together_on_a_mix_of_images_and_clips():
    ours, by_tokens = balance(8 * 80_000)
    assert ours > 0.97
    assert by_tokens < 0.75


def test_one_long_clip_is_named_as_what_holds_a_step_up():
    tokens = [40_500] + [1024] * 20
    costs = [step_flops(GOKU_2B, n, 256) for n in tokens]
    assert plan_step(costs, tokens, 8, 0).balance < 0.5
    assert "tokens_per_step" in advice(costs, tokens, 8)
    assert advice([1.0] * 16, [1] * 16, 8) == ""


def test_flops_are_those_of_the_matrix_products():
    """Counted by torch itself over a real forward pass."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers_small import CONFIG, awake

    from goku_cli.model.network.packing import pack

    model = awake(dtype=torch.float32)
    packed = pack([torch.randn(4, 3, 8, 12)], [torch.randn(7, 12)])
    with FlopCounterMode(display=False) as counter:
        model(packed, torch.rand(1))
    counted = counter.get_total_flops()
    assert forward_flops(CONFIG, 72, 7) == pytest.approx(counted, rel=0.12)  # without the time embedding's two layers
    assert forward_flops(GOKU_2B, 40_500, 0) / 40_500 > 3 * forward_flops(GOKU_2B, 256, 0) / 256
