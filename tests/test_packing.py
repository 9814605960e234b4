"""Packing: a pack must give what each sample gives alone."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers_small import CONFIG, awake

from goku_cli.model.network.packing import (
    FEW_RUNS,
    Sequences,
    grid_positions,
    pack,
    patchify,
    token_count,
    unpack,
    unpatchify,
)

shapes = st.tuples(st.just(4), st.integers(1, 3), st.sampled_from([2, 4, 6]), st.sampled_from([2, 4]))
samples = st.lists(st.tuples(shapes, st.integers(1, 9)), min_size=1, max_size=5)


@given(shapes)
def test_patchify_round_trip(shape):
    latent = torch.randn(shape)
    tokens = patchify([latent])
    assert tokens.shape == (token_count(shape), 16)
    assert torch.equal(unpatchify(tokens, shape), latent)


def test_patchify_refuses_odd_sizes():
    with pytest.raises(ValueError, match="even"):
        patchify([torch.zeros(4, 1, 3, 4)])


def test_positions_start_at_zero_in_every_sample():
    packed = pack([torch.zeros(4, 2, 2, 4), torch.zeros(4, 1, 2, 2)], [torch.zeros(1, 12)] * 2)
    assert packed.positions.tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert packed.vision.cu_seqlens.tolist() == [0, 4, 5]
    assert packed.vision.sample.tolist() == [0, 0, 0, 0, 1]
    assert grid_positions((4, 2, 4, 6)).unique(dim=0).shape == (12, 3)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_sequences_spread_a_row_over_each_samples_tokens(lengths):
    found = Sequences.of(lengths)
    values = torch.randn(len(lengths), 3)
    spread = found.spread(values).expand(sum(lengths), 3)
    assert torch.equal(spread, values.repeat_interleave(torch.tensor(lengths), dim=0))
    assert (found.longest, found.cu_seqlens[-1]) == (max(lengths), sum(lengths))


@given(st.lists(shapes, min_size=1, max_size=6))
def test_neighbors_of_one_shape_are_cut_as_each_is_alone(drawn):
    latents = [torch.randn(shape) for shape in [*drawn, drawn[-1]]]
    assert torch.equal(patchify(latents), torch.cat([patchify([latent]) for latent in latents]))


@pytest.mark.parametrize("lengths", [[4] * 5, [4, 4, 12, 12, 12], list(range(1, 12))])
def test_broadcast_and_lookup_spread_the_same_values_and_gradients(lengths):
    """Few lengths are broadcast, many are looked up."""
    found = Sequences.of(lengths)
    assert (len(found.runs) <= FEW_RUNS) == (len(set(lengths)) <= 2)
    values = torch.randn(len(lengths), 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(sum(lengths), 3, dtype=torch.float64)
    ours = torch.autograd.grad((found.spread(values) * weights).sum(), values)[0]
    looked_up = F.embedding(found.sample, values)
    assert torch.equal(found.spread(values), looked_up)
    torch.testing.assert_close(ours, torch.autograd.grad((looked_up * weights).sum(), values)[0])


def test_pooling_sums_rows_and_keeps_their_variance():
    rows = torch.randn(7, 3, dtype=torch.float64)
    pooled = Sequences.of([2, 0, 5]).pool(rows)
    expected = torch.stack([rows[:2].sum(0) / 2**0.5, torch.zeros(3), rows[2:].sum(0) / 5**0.5])
    torch.testing.assert_close(pooled, expected.double())


@settings(max_examples=15, deadline=None)
@given(samples, st.booleans())
def test_packed_equals_alone(drawn, told):
    """Forward and gradients, in float64, with a timestep and a caption of its own for each."""
    config = replace(CONFIG, absolute_positions=told, pooled_text=told, shared_modulation=told)
    latents = [torch.randn(shape, dtype=torch.float64) for shape, _ in drawn]
    texts = [torch.randn(m, 12, dtype=torch.float64) for _, m in drawn]
    t = torch.rand(len(drawn), dtype=torch.float64)
    together, alone = awake(config), awake(config)
    packed = together(pack(latents, texts), t)
    packed.square().sum().backward()
    outputs = unpack(packed, [z.shape for z in latents])
    for latent, text, time, output in zip(latents, texts, t, outputs, strict=True):
        single = alone(pack([latent], [text]), time[None])
        single.square().sum().backward()
        torch.testing.assert_close(output, unpack(single, [latent.shape])[0], atol=1e-10, rtol=1e-10)
    for a, b in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-10, rtol=1e-8)


def test_the_order_of_a_pack_does_not_matter():
    model = awake()
    latents = [torch.randn(4, t, 4, 2, dtype=torch.float64) for t in (1, 3, 2)]
    texts = [torch.randn(m, CONFIG.text_dim, dtype=torch.float64) for m in (3, 2, 5)]
    t = torch.rand(3, dtype=torch.float64)
    forward = unpack(model(pack(latents, texts), t), [z.shape for z in latents])
    backward = unpack(model(pack(latents[::-1], texts[::-1]), t.flip(0)), [z.shape for z in latents[::-1]])
    for a, b in zip(forward, backward[::-1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
