"""A pack whose tokens lie on two ranks gives what it gives on one: velocities and gradients."""

import json
from dataclasses import replace

import pytest
import torch
from at_work import ranks_do, train_all
from encoded import make_encoded
from test_resume import RECIPE, told

from goku_cli.errors import UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.model.network.packing import pack
from goku_cli.model.network.presets import model_config
from goku_cli.model.network.transformer import Goku
from goku_cli.model.network.ulysses import check_degree, heads_per_rank, split_pack, true_lengths
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import Parallel
from goku_cli.train.trainer import Trainer

SHAPES = [(4, 3, 6, 4), (4, 1, 4, 4), (4, 2, 2, 6), (4, 1, 2, 2)]  # 18 + 4 + 6 + 1 tokens: 29, an odd number
CONFIG = {"heads": 3, "rope_split": [4, 6, 6], "latent_channels": 4, "text_dim": 8, "image_condition": True}


def model_and_pack():
    torch.manual_seed(0)
    model = Goku(model_config("nano", **{**CONFIG, "rope_split": (4, 6, 6)})).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    latents = [torch.randn(shape).double() for shape in SHAPES]
    texts = [torch.randn(n, 8).double() for n in (3, 1, 5, 2)]
    return model, pack(latents, texts, first_frames=[x[:, :1] for x in latents]), torch.rand(4).double()


def two_ranks(rank, folder):
    model, packed, t = model_and_pack()
    mine, present, true = split_pack(packed, torch.distributed.group.WORLD, rank, 2)
    assert sum(true_lengths(mine.vision.lengths, true)) == true == (15, 14)[rank]
    v = model(mine, t[present])[:true]
    v.square().sum().backward()
    torch.save({"v": v.detach(), "gradients": [p.grad for p in model.parameters()]}, folder / f"{rank}.pt")


def test_velocities_and_gradients_are_those_of_one_rank(tmp_path):
    ranks_do(2, two_ranks, tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    model, packed, t = model_and_pack()
    v = model(packed, t)
    v.square().sum().backward()
    torch.testing.assert_close(torch.cat([one["v"] for one in found]), v.detach(), atol=1e-10, rtol=0)
    for parameter, *parts in zip(model.parameters(), *(one["gradients"] for one in found), strict=True):
        total = sum(part for part in parts if part is not None)
        torch.testing.assert_close(total, parameter.grad, atol=1e-9, rtol=1e-9)


def test_a_run_learns_the_same_with_its_packs_on_two_ranks(tmp_path):
    make_encoded(tmp_path)
    runs = []
    for sequence in (1, 2):
        recipe = replace(RECIPE, train=replace(RECIPE.train, steps=4), parallel=Parallel(sequence=sequence))
        with Manifest(tmp_path / "small.duckdb") as manifest:
            runs.append(prepare(manifest, "small", recipe, "r", tmp_path / f"runs{sequence}").folder)
    ranks_do(2, train_all, runs)
    for what in ("loss", "norm", "held_out_loss", "loss_images"):
        assert told(runs[1], what) == pytest.approx(told(runs[0], what), rel=1e-4)
    assert json.loads((runs[1] / "recipe.json").read_text())["recipe"]["parallel"]["sequence"] == 2


@pytest.mark.parametrize("degree", [1, 2, 3, 7])
def test_the_stretches_of_a_pack_are_the_pack(degree):
    """What fills up the last stretches belongs to the last sample."""
    sizes = 3, 1, 5, 2
    given = pack([torch.randn(4, 1, 2 * n, 2) for n in sizes], [torch.randn(1 + i % 2, 96) for i in range(len(sizes))])
    texts = given.text.split(list(given.words.lengths))
    tokens, positions, owners = [], [], []
    for rank in range(degree):
        mine, present, true = split_pack(given, None, rank, degree)
        assert len(mine.tokens) == sum(mine.vision.lengths) == -(-sum(sizes) // degree)
        assert torch.equal(mine.text, torch.cat([texts[i] for i in present]))
        owner = torch.tensor(present)[mine.vision.sample.long()]
        assert (owner[true:] == len(sizes) - 1).all()
        for found, x in ((tokens, mine.tokens), (positions, mine.positions), (owners, owner)):
            found.append(x[:true])
    assert torch.equal(torch.cat(tokens), given.tokens) and torch.equal(torch.cat(positions), given.positions)
    assert torch.cat(owners).tolist() == given.vision.sample.tolist()


def test_heads_that_do_not_divide_are_spread():
    assert heads_per_rank(28, 8) == [4, 4, 4, 4, 3, 3, 3, 3]
    check_degree(8, heads=28, ranks=8)
    with pytest.raises(UsageError, match=r"3 does not fit 8 ranks and 28 heads; take one of: 1, 2, 4, 8"):
        check_degree(3, heads=28, ranks=8)
    with pytest.raises(UsageError, match="take one of: 1, 2"):
        check_degree(4, heads=3, ranks=4)


def test_a_rank_refuses_packs_that_more_ranks_share_than_there_are(tmp_path):
    """Under a launcher that is not ours nobody has asked before."""
    make_encoded(tmp_path)
    with Manifest(tmp_path / "small.duckdb") as manifest:
        run = prepare(manifest, "small", replace(RECIPE, parallel=Parallel(sequence=2)), "r", tmp_path / "runs").folder
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        with pytest.raises(UsageError, match="sequence = 2 does not fit 1 ranks and"):
            Trainer(run)
    finally:
        torch.distributed.destroy_process_group()
