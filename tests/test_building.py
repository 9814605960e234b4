"""A model that is made part by part is the model, and no part outlives its turn."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from transformers_small import CONFIG, WAN, awake

from goku_cli.errors import GokuError
from goku_cli.model.network.transformer import Goku
from goku_cli.train.distributed.checkpointer import stretch
from goku_cli.train.distributed.sharded_init import build_model

OPTIONS = [{}, WAN, {"image_condition": True}, {"classes": 5}, {"pooled_text": True, "absolute_positions": True}]


def keep(part):
    return None


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
def test_it_is_drawn_like_one_that_is_made_at_once(options):
    config = replace(CONFIG, dim=96, ffn_dim=192, heads=2, rope_split=(16, 16, 16), **options)
    built, whole = build_model(config, 0, None, keep), Goku(config)
    assert {n: p.shape for n, p in built.named_parameters()} == {n: p.shape for n, p in whole.named_parameters()}
    for (name, ours), theirs in zip(built.named_parameters(), whole.parameters(), strict=True):
        assert not ours.is_meta
        if theirs.std() < 1e-6 or name.startswith("condition_in"):  # zeros, ones, and what passes noise through
            torch.testing.assert_close(ours, theirs)
        else:
            assert float(ours.detach().std()) == pytest.approx(float(theirs.detach().std()), rel=0.2), name
    again = build_model(config, 0, None, keep)
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), again.parameters(), strict=True))
    assert not torch.equal(built.patch_in.weight, build_model(config, 1, None, keep).patch_in.weight)


def test_a_part_is_given_away_before_the_next_is_made():
    sizes = []

    def take(part):
        here = sum(p.numel() for p in model_of(part))
        sizes.append(here)
        for parameter in part.parameters():
            parameter.data = torch.empty(0)

    def model_of(part):
        return [p for p in part.parameters() if not p.is_meta]

    config = replace(CONFIG, layers=5)
    model = build_model(config, 0, None, take)
    assert sum(sizes) == sum(p.numel() for p in Goku(config).parameters())
    assert max(sizes) == sum(p.numel() for p in Goku(config).blocks[0].parameters())
    assert not any(p.numel() for p in model.parameters())


def test_weights_of_a_file_are_taken_and_what_does_not_fit_is_named(tmp_path):
    given = awake(dtype=torch.float32)
    path = tmp_path / "w.safetensors"
    save_file(given.state_dict(), path)
    built = build_model(CONFIG, 0, path, keep)
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), given.parameters(), strict=True))
    image = build_model(replace(CONFIG, image_condition=True), 0, path, keep)
    width = 4 * CONFIG.latent_channels
    assert torch.equal(image.condition_in.weight, torch.eye(width, 2 * width))
    with pytest.raises(GokuError, match="do not fit: .*blocks.2"):
        build_model(replace(CONFIG, layers=3), 0, path, keep)
    with pytest.raises(GokuError, match="do not fit: .*blocks.1"):
        build_model(replace(CONFIG, layers=1), 0, path, keep)
    with pytest.raises(GokuError, match=r"do not fit: .* is \["):
        build_model(replace(CONFIG, ffn_dim=48), 0, path, keep)


@settings(deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.data())
def test_a_stretch_of_a_flattened_tensor_is_read_alone(tmp_path_factory, shape, data):
    path = tmp_path_factory.mktemp("s") / "x.safetensors"
    whole = torch.arange(math.prod(shape)).view(shape)
    save_file({"x": whole}, path)
    start = data.draw(st.integers(0, whole.numel() - 1))
    length = data.draw(st.integers(1, whole.numel() - start))
    with safe_open(path, framework="pt") as file:
        assert torch.equal(stretch(file, "x", start, length), whole.view(-1)[start : start + length])
