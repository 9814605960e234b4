"""Adapters learn beside weights that stay as they are, and the checkpoint is a model like any other."""

from dataclasses import replace

import pytest
import torch
from at_work import ranks_do, train_all
from encoded import make_encoded
from safetensors.torch import load_file, save_file
from test_resume import RECIPE

from goku_cli.errors import UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import Goku
from goku_cli.model.weights import checkpoint
from goku_cli.recipe import build
from goku_cli.train.distributed.lora import add_adapters, merged, write_merged
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import Lora, Parallel

LORA = Lora(rank=2, alpha=4.0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A base, and adapters trained beside it on two ranks at ZeRO 2."""
    folder = tmp_path_factory.mktemp("lora")
    make_encoded(folder)
    train = replace(RECIPE.train, steps=4, lr=1e-2)
    found = {}
    for name, changes in (("base", {}), ("lora", {"lora": LORA, "parallel": Parallel(zero_stage=2)})):
        recipe = replace(RECIPE, train=train, init_from=str(found.get("base", "")), **changes)
        with Manifest(folder / "small.duckdb") as manifest:
            found[name] = prepare(manifest, "small", recipe, name, folder / "runs").folder
        ranks_do(2 if name == "lora" else 1, train_all, [found[name]])
    return found


def weights(run, name):
    return checkpoint.read_weights(checkpoint.resolve(run), name)


def test_only_the_adapters_change_and_they_are_added(runs):
    base, whole = weights(runs["base"], "ema.safetensors"), weights(runs["lora"], "model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], whole[name])}
    assert base.keys() == whole.keys()
    assert changed == {name for name in base if name.endswith((".q.weight", ".k.weight", ".v.weight", ".out.weight"))
                       or (".ffn." in name and name.endswith("weight"))}  # fmt: skip
    adapters = weights(runs["lora"], "adapters-model.safetensors")
    assert sum(x.numel() for x in adapters.values()) < 0.2 * sum(x.numel() for x in base.values())
    for name, x in merged(base, adapters, LORA).items():
        assert torch.equal(x, whole[name])


def test_the_merged_model_computes_what_the_adapted_one_does(runs):
    config = build(ModelConfig, checkpoint.read_config(checkpoint.resolve(runs["lora"]))["model"], where="test")
    adapted, plain = Goku(config), Goku(config)
    adapted.load_state_dict(weights(runs["base"], "ema.safetensors"))
    add_adapters(adapted, LORA)
    adapted.load_state_dict(weights(runs["lora"], "adapters-model.safetensors"), strict=False)
    plain.load_state_dict(weights(runs["lora"], "model.safetensors"))
    x = torch.randn(5, config.dim)
    torch.testing.assert_close(adapted.blocks[0].ffn(x), plain.blocks[0].ffn(x), atol=1e-5, rtol=1e-5)


def test_whole_weights_are_written_beside_every_file_of_adapters(tmp_path):
    base = {"q.weight": torch.randn(3, 5), "out.weight": torch.randn(2, 2)}
    wanted = {}
    for i, name in enumerate(("model.safetensors", "ema.safetensors"), 1):
        up, down = torch.full((3, 2), float(i)), torch.randn(2, 5)
        save_file({"q.lora_A.default.weight": down, "q.lora_B.default.weight": up}, tmp_path / f"adapters-{name}")
        wanted[name] = base["q.weight"] + 4.0 / 2 * i * down.sum(0)
    write_merged(tmp_path, base, LORA)
    for name, q in wanted.items():
        found = load_file(tmp_path / name)
        torch.testing.assert_close(found["q.weight"], q)
        assert torch.equal(found["out.weight"], base["out.weight"])


def test_adapters_need_a_model(runs, tmp_path):
    with pytest.raises(UsageError, match="needs init_from"):
        replace(RECIPE, lora=LORA)
    recipe = replace(RECIPE, init_from=str(runs["base"]), lora=LORA, model={"image_condition": True})
    with Manifest(runs["base"].parents[1] / "small.duckdb") as manifest, pytest.raises(UsageError, match="adapts the"):
        prepare(manifest, "small", recipe, "x", tmp_path)
