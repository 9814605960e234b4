"""Packing and the transformer: a pack must give what each sample gives alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_cli.errors import UsageError
from goku_cli.model.packing import cumulative, grid_positions, pack, patchify, token_count, unpack, unpatchify
from goku_cli.model.presets import SIZES, ModelConfig, model_config
from goku_cli.model.rope import rope_table, rotate
from goku_cli.model.transformer import Goku

CONFIG = ModelConfig(
    layers=2, dim=32, ffn_dim=64, heads=2, rope_split=(4, 6, 6), rope_theta=1e4, latent_channels=4, text_dim=12
)
shapes = st.tuples(st.just(4), st.integers(1, 3), st.sampled_from([2, 4, 6]), st.sampled_from([2, 4]))


def awake() -> Goku:
    """A model whose zero-initialized parts are not zero, in float64."""
    torch.manual_seed(0)
    model = Goku(CONFIG).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@given(shapes)
def test_patchify_round_trip(shape):
    latent = torch.randn(shape)
    tokens = patchify(latent)
    assert tokens.shape == (token_count(shape), 16)
    assert torch.equal(unpatchify(tokens, shape), latent)


def test_patchify_refuses_odd_sizes():
    with pytest.raises(ValueError, match="even"):
        patchify(torch.zeros(4, 1, 3, 4))


def test_positions_start_at_zero_in_every_sample():
    packed = pack([torch.zeros(4, 2, 2, 4), torch.zeros(4, 1, 2, 2)], [torch.zeros(1, 12)] * 2)
    assert packed.positions.tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert cumulative(packed.lengths).tolist() == [0, 4, 5]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(shapes, st.integers(1, 9)), min_size=1, max_size=5))
def test_packed_equals_alone(samples):
    model = awake()
    latents = [torch.randn(shape, dtype=torch.float64) for shape, _ in samples]
    texts = [torch.randn(m, 12, dtype=torch.float64) for _, m in samples]
    t = torch.rand(len(samples), dtype=torch.float64)
    together = unpack(model(pack(latents, texts), t), [z.shape for z in latents])
    for latent, text, time, packed in zip(latents, texts, t, together, strict=True):
        alone = unpack(model(pack([latent], [text]), time[None]), [latent.shape])[0]
        torch.testing.assert_close(packed, alone, atol=1e-10, rtol=1e-10)


def test_packed_gradients_equal_the_sum_of_gradients_alone():
    latents = [torch.randn(4, t, 4, 2, dtype=torch.float64) for t in (1, 3, 1)]
    texts = [torch.randn(m, 12, dtype=torch.float64) for m in (3, 3, 5)]
    t = torch.rand(3, dtype=torch.float64)
    together, alone = awake(), awake()
    together(pack(latents, texts), t).square().sum().backward()
    for latent, text, time in zip(latents, texts, t, strict=True):
        alone(pack([latent], [text]), time[None]).square().sum().backward()
    for a, b in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-10, rtol=1e-8)


def test_output_is_zero_at_the_start():
    packed = pack([torch.randn(4, 2, 4, 4)], [torch.randn(3, 12)])
    assert not Goku(CONFIG)(packed, torch.rand(1)).any()


@pytest.mark.parametrize(("size", "billions"), [("1b", 0.876), ("2b", 2.005), ("8b", 8.055)])
def test_block_parameters_are_the_papers(size, billions):
    with torch.device("meta"):
        model = Goku(model_config(size, latent_channels=16, text_dim=2048))
    assert sum(p.numel() for p in model.blocks.parameters()) / 1e9 == pytest.approx(billions, abs=5e-4)


def test_unknown_size_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean"):
        model_config("2bb", latent_channels=16, text_dim=8)


def test_rope_splits_fit_the_heads():
    for size in SIZES:
        model_config(size, latent_channels=16, text_dim=8)
    with pytest.raises(UsageError, match="must sum"):
        ModelConfig(2, 32, 64, 2, (4, 4, 4), 1e4, 4, 12)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(0, 50)] * 3), st.tuples(*[st.integers(0, 50)] * 3), st.tuples(*[st.integers(0, 50)] * 3))
def test_rope_products_depend_on_relative_positions(a, b, move):
    q, k = torch.randn(2, 1, 1, 16, dtype=torch.float64)

    def product(p, r):
        positions = torch.tensor([p, r])
        cos, sin = rope_table(positions, (4, 6, 6), 1e4, torch.float64)
        x = rotate(torch.cat([q, k]), cos, sin)
        return (x[0] * x[1]).sum()

    moved = product([x + m for x, m in zip(a, move, strict=True)], [x + m for x, m in zip(b, move, strict=True)])
    torch.testing.assert_close(product(a, b), moved, atol=1e-9, rtol=0)


def test_grid_positions_cover_the_grid():
    assert grid_positions((4, 2, 4, 6)).unique(dim=0).shape == (12, 3)
