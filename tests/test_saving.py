"""What the ranks of a run hold is saved and comes back, whoever reads it: here both are threads of one process."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from goku_cli.errors import GokuError
from goku_cli.model.weights.checkpoint import verify
from goku_cli.train.distributed.checkpointer import STATE, Checkpointer, restore, snapshot
from goku_cli.train.distributed.ema import EmaWeights
from goku_cli.train.distributed.weight_shards import WeightShards
from goku_cli.train.recipe import TrainConfig

SETTINGS = TrainConfig(steps=9, tokens_per_step=1, lr=0.1, ema=(0.9, 0.5))


class Held:
    """What a rank without ZeRO holds: weights, AdamW's moments and two averages, after some steps."""

    def __init__(self, rank=0, world=1, seed=0, steps=2):
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3, bias=False))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), SETTINGS.lr)
        engine = SimpleNamespace(module=self.model, optimizer=None)
        self.weight_shards = WeightShards(engine, self.optimizer, 0, rank, world)
        self.ema = EmaWeights(self.weight_shards, SETTINGS)
        for step in range(steps):
            self.model(torch.randn(4, 5)).square().sum().backward()
            self.optimizer.step()
            self.ema.update(step + 1)

    def tensors(self):
        averages = {f"{name} {i}": x for name, every in self.ema.values.items() for i, x in enumerate(every)}
        weights = {name: x.detach() for name, x in self.model.named_parameters()}
        return {name: x.flatten() for name, x in (weights | averages | self.weight_shards.states()).items()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint of two ranks that hold the same, but for random numbers and a tensor of their own."""
    run = tmp_path_factory.mktemp("run")
    savers = []
    for rank in (0, 1):
        held = Held(rank, 2)
        savers.append(Checkpointer(run, rank, 2, {name: p.shape for name, p in held.model.named_parameters()}, 2, 0))
        torch.manual_seed(10 + rank)
        taken = snapshot(4, held.weight_shards, held.ema, {"own": torch.full((3,), float(rank))})
        savers[rank].start(taken, lambda folder: {"kind": "flow"}, {"optimizer_steps": held.weight_shards.steps()})
    for saver in savers:
        saver.wait(60)
    assert [(saver.problem, saver.busy, saver.pending) for saver in savers] == [("", False, False)] * 2
    return run / "step-000004"


def test_a_checkpoint_is_whole_and_says_what_it_is(saved):
    verify(saved)
    assert json.loads((saved / "config.json").read_text()) == {"kind": "flow"}
    assert json.loads((saved / STATE).read_text()) == {"optimizer_steps": 2}
    assert not list(saved.parent.glob(".step-*")) and not list(saved.glob("rank-*"))


def test_weights_and_averages_are_put_together(saved):
    held = Held()
    weights, average = load_file(saved / "model.safetensors"), load_file(saved / "ema.safetensors")
    for (name, weight), x in zip(held.model.named_parameters(), held.ema.values["ema.safetensors"], strict=True):
        assert torch.equal(weights[name], weight)
        assert torch.equal(average[name].flatten(), x.flatten())


def test_each_rank_writes_its_half_of_the_optimizers_state(saved):
    files = [load_file(path) for path in sorted(saved.glob("optimizer-*"))]
    sizes = [sum(x.numel() for name, x in file.items() if name.startswith("exp_avg/")) for file in files]
    assert sum(sizes) == sum(p.numel() for p in Held().model.parameters())
    assert abs(sizes[0] - sizes[1]) <= 3  # one element of each weight


@pytest.mark.parametrize(("rank", "world"), [(0, 2), (1, 2), (0, 1), (2, 3)])
def test_any_number_of_ranks_goes_on_from_it(saved, rank, world):
    other = Held(rank, world, seed=1, steps=0)
    extra = restore(saved, other.weight_shards, other.ema, rank, world)
    following = torch.rand(3)
    found, wanted = other.tensors(), Held().tensors()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(x, wanted[name]) for name, x in found.items())
    assert other.weight_shards.steps() == 2
    assert {name: x.tolist() for name, x in extra.items()} == ({"own": [rank] * 3} if world == 2 else {})
    if world == 2:
        torch.manual_seed(10 + rank)
        assert torch.equal(following, torch.rand(3))


def test_an_average_that_was_not_saved_is_told(saved):
    held = Held()
    held.ema = EmaWeights(held.weight_shards, TrainConfig(steps=9, tokens_per_step=1, lr=0.1, ema=(0.99, 0.7)))
    with pytest.raises(GokuError, match=r"ema-0.7.safetensors is missing: the recipe's averages were others"):
        restore(saved, held.weight_shards, held.ema, 0, 2)
