"""What a step learns from does not depend on how many ranks share it, nor on how its samples are packed."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from encoded import make_encoded
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_cli.errors import GokuError
from goku_cli.manifest.shards import ShardReader, checksum, write_shard
from goku_cli.manifest.store import Manifest
from goku_cli.model.network.flops import step_flops
from goku_cli.model.network.packing import patchify
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import Goku
from goku_cli.model.objective.objective import Objective
from goku_cli.model.vae.codec import Statistics
from goku_cli.model.weights.checkpoint import finish, write_weights
from goku_cli.recipe import build
from goku_cli.train.data import prefetch
from goku_cli.train.data.batches import Steps
from goku_cli.train.data.index import Index, TensorRef
from goku_cli.train.data.sampler import EpochSampler, Latents
from goku_cli.train.distributed.topology import Ranks
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import Flow, Recipe, TrainConfig
from goku_cli.train.tasks.build import make_task
from goku_cli.train.tasks.flow import FlowTask

DATA = Objective(predicts="data")
RECIPE = Recipe("flow", TrainConfig(steps=4, tokens_per_step=200, lr=1e-3), size="nano", flow=Flow(text_dropout=0.3))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    with Manifest(make_encoded(folder)) as manifest:
        return prepare(manifest, "small", RECIPE, "task", folder / "runs")


def of(run, index=None, root=None, **settings):
    """What a step of a run is drawn from, with other rows or another folder of shards."""
    frozen = build(Statistics, json.loads((run.folder / "recipe.json").read_text())["data"]["statistics"], where="plan")
    chosen = {"null_text": TensorRef("", "", 0), "seed": 0, "image_share": 0.5, "text_dropout": 0.0} | settings
    index = index or Index.open(run.folder / "index")
    return Latents(index, frozen, root or run.folder.parent.parent, chosen.pop("null_text"), **chosen)


def other(index, **columns):
    """The same rows with other values in some columns."""
    return replace(index, rows={**index.rows, **columns})


def task(run, rank=0, world=1, sequence=1, objective=None, **settings):
    plan = json.loads((run.folder / "recipe.json").read_text())
    recipe = replace(RECIPE, train=replace(RECIPE.train, **settings))
    latents = of(run, null_text=TensorRef(*plan["null_text"]), text_dropout=0.3)
    ranks = Ranks(rank, world, sequence)
    config = build(ModelConfig, plan["model"], where="plan")
    made = FlowTask(Steps(recipe, config, objective or Objective(), latents, ranks), Goku(config))
    generator = torch.Generator().manual_seed(1)
    for parameter in made.model.parameters():  # awake: at the start all gradients but the last layer's are zero
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    return made


def test_a_run_that_begins_with_a_checkpoint_trains_all_of_its_weights(run, tmp_path):
    given = task(run).model
    (tmp_path / ".base").mkdir()
    write_weights(tmp_path / ".base", "ema.safetensors", given.state_dict())
    finish(tmp_path / ".base", tmp_path / "base")
    plan = json.loads((run.folder / "recipe.json").read_text()) | {"init_from": str(tmp_path / "base")}
    made = make_task(run.folder, plan, RECIPE, Ranks()).model
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert {name: x.tolist() for name, x in made.state_dict().items()} == {
        name: x.tolist() for name, x in given.state_dict().items()
    }


def gradients(tasks, step):
    """What the ranks' mean gradient is, as the engine computes it."""
    for one in tasks:
        for batch in one.prepare(step).batches:
            one.loss(one.model, batch).backward()
    columns = zip(*(list(one.model.parameters()) for one in tasks), strict=True)
    zero = torch.zeros(())
    return [sum(zero if p.grad is None else p.grad for p in column) / len(tasks) for column in columns]


@pytest.mark.parametrize(
    ("world", "max_tokens", "objective"),
    [(2, 0, Objective()), (3, 0, Objective()), (1, 60, Objective()), (2, 60, Objective()), (2, 60, DATA)],
)
def test_another_number_of_ranks_or_packs_has_the_same_gradient(run, world, max_tokens, objective):
    alone = gradients([task(run, objective=objective)], 3)
    kwargs = {"max_tokens": max_tokens, "objective": objective}
    shared = gradients([task(run, rank, world, **kwargs) for rank in range(world)], 3)
    for a, b in zip(alone, shared, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_predicted_data_cost_what_their_velocity_does_each_sample_at_its_own_time(run, half):
    one = task(run, objective=DATA)
    (batch,) = one.prepare(0).batches
    assert len(set(batch.t_B.tolist())) > 5
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        output = one.model(batch.x_t, batch.t_B)
        found = batch.sums(one._errors(one.model, batch))
    assert output.dtype == (torch.bfloat16 if half else torch.float32)
    rows = [row["here"] for row in batch.rows]
    parts = (x.double().split(rows) for x in (output, batch.x_t.tokens, batch.target))
    for error, t, x_1, x_t, target in zip(found, batch.t_B.double(), *parts, strict=True):
        wanted = ((x_1 - x_t) / max(1 - t, 0.05) - target).square().sum()
        assert float(error) == pytest.approx(float(wanted), rel=1e-5)


class TellsTheTime(torch.nn.Module):
    """A network whose every output is the sample's time."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, pack, t_B):
        return pack.vision.spread(t_B[:, None]).expand_as(pack.tokens)


@pytest.mark.parametrize("max_tokens", [0, 60])
def test_the_held_out_loss_is_the_mean_of_five_times(run, max_tokens):
    one = task(run, max_tokens=max_tokens)
    examples = one.steps.latents.held_out(128)
    images = [example for example in examples if example.latent.shape[1] == 1]
    videos = [example for example in examples if example.latent.shape[1] > 1]

    def loss(t, some):
        errors = [(t - (example.latent - example.x_0)).square().flatten() for example in some]
        return float(torch.cat(errors).mean())

    times = (0.1, 0.3, 0.5, 0.7, 0.9)
    wanted = {f"held_out_loss_t{t}": loss(t, examples) for t in times}
    for name, some in (("", examples), ("_images", images), ("_videos", videos)):
        wanted[f"held_out_loss{name}"] = np.mean([loss(t, some) for t in times])
    assert one.evaluate(TellsTheTime()) == pytest.approx(wanted, rel=1e-5)


def test_the_ranks_of_a_step_are_balanced_by_its_operations(run):
    one = task(run, world=3)
    draws, planned, figures = one.steps.plan(0)
    costs = [float(step_flops(one.config, *of)) for of in zip(draws.tokens, draws.text_tokens, strict=True)]
    loads = [sum(costs[i] for pack in packs for i in pack) for packs in planned.ranks]
    assert figures["balance"] == pytest.approx(np.mean(loads) / max(loads), rel=1e-9)
    assert figures["flops"] == pytest.approx(sum(costs))
    assert figures["tokens"] == sum(draw.tokens for draw in draws)


@pytest.mark.parametrize(("samples", "degree"), [(8, 2), (8, 7), (2, 7)])
def test_a_stretch_of_a_pack_costs_what_it_does_in_the_whole(run, samples, degree):
    """Seven stretches of 240 tokens are filled up at the end of two samples, and of 30 the last has no true one."""
    examples = task(run).steps.latents.held_out(9)[::-1][-samples:]
    t_B = torch.linspace(0.05, 0.99, len(examples))

    def errors(**place):
        one = task(run, objective=DATA, **place)
        return one._errors(lambda pack, t: pack.tokens / 2, one.steps.corrupted(examples, t_B, 1.0, 0))

    stretches = [errors(rank=rank, world=degree, sequence=degree) for rank in range(degree)]
    torch.testing.assert_close(torch.cat(stretches), errors())


def test_the_right_data_cost_nothing_at_any_time(run):
    one = task(run, objective=DATA)
    examples = one.steps.latents.held_out(9)
    x_1 = patchify([example.latent for example in examples])
    batch = one.steps.corrupted(examples, torch.linspace(0.05, 0.999, len(examples)), 1.0, 0)
    assert float(one._errors(lambda pack, t: x_1, batch).max()) == 0
    assert float(one._errors(lambda pack, t: x_1 + 0.01, batch).min()) > 1e-4


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_images_get_their_share_of_the_tokens_also_when_a_clip_is_as_large_as_a_step(run, share):
    index = Index.open(run.folder / "index")
    large = other(index, tokens=np.where(index.rows["image"], 1_620, 40_500))
    latents, again = (of(run, large, image_share=share) for _ in range(2))
    for one in (latents, again):
        one.text = lambda place: torch.zeros(1, 8)
    images = total = 0
    for step in range(40):
        again.position = list(latents.position)
        draws = latents.draw(step, 40_500)
        assert list(draws) == list(again.draw(step, 40_500))  # what is owed goes on with a resumed run
        here = [draw.tokens for draw in draws]
        assert 40_500 <= sum(here) < 40_500 + here[-1]
        images, total = images + sum(n for n in here if n == 1_620), total + sum(here)
    assert images / total == pytest.approx(share, abs=40_500 / total)


def test_a_resumed_run_goes_on_with_the_samples_that_follow(run):
    through, resumed, older = (task(run) for _ in range(3))
    through.steps.pass_over(0)
    position = list(through.steps.latents.position)
    resumed.go_to(position)
    assert list(resumed.steps.plan(1)[0]) == list(through.steps.plan(1)[0])
    older.go_to(position[:2])  # as in a checkpoint of before the tokens were counted
    assert older.steps.latents.position == [*position[:2], 0, 0]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 50)), min_size=1, max_size=12),
    st.floats(0.01, 0.99) | st.sampled_from([0.0, 0.5, 1.0]), st.lists(st.integers(1, 120), min_size=1, max_size=6),
)  # fmt: skip
def test_a_step_is_what_somebody_would_take_who_draws_one_by_one(kinds, share, steps):
    """Images and videos of any sizes in steps of any sizes: the next sample is of the kind that is owed more."""
    image, tokens = (np.array(column) for column in zip(*kinds, strict=True))
    rows = {"image": image, "tokens": tokens, "held_out": np.zeros(len(kinds), bool), "weight": np.ones(len(kinds))}
    index = Index(rows, {}, {"shapes": [[1, 1, 2, 2]]})
    latents = Latents(index, None, Path(), TensorRef("", "", 0), seed=1, image_share=share, text_dropout=0.0)
    orders = [order.from_on(0, 2000).tolist() if len(order) else [] for order in latents._orders]
    share = share if image.any() and not image.all() else float(image.all())
    drawn, spent = [0, 0], [0, 0]
    for wanted in steps:
        expected = []
        while sum(map(int, tokens[expected])) < wanted:
            video = int(share < 1 and (share == 0 or (1 - share) * spent[0] >= share * spent[1]))
            expected.append(orders[video][drawn[video]])
            drawn[video] += 1
            spent[video] += int(tokens[expected[-1]])
        assert latents._next(wanted).tolist() == expected
        assert latents.position == [*drawn, *spent]


def test_of_clips_without_their_first_frame_half_are_without_their_text(run):
    latents = of(run, image_dropout=0.4)
    latents.text = lambda place: torch.zeros(1, 8)
    draws = [draw for step in range(40) for draw in latents.draw(step, 400)]
    shares = [
        np.mean([(draw.use_first_frame, draw.source != "dropped") == kind for draw in draws])
        for kind in ((True, True), (False, True), (False, False), (True, False))
    ]
    assert shares == pytest.approx([0.6, 0.2, 0.2, 0.0], abs=0.05)


def test_noise_belongs_to_the_sample_and_the_step(run):
    one = task(run)
    draws = one.steps.latents.draw(5, 200)
    assert list(draws) == list(task(run).steps.latents.draw(5, 200))
    assert list(draws) != list(one.steps.latents.draw(5, 200))  # the data have gone on
    noises = [one.steps.latents.read(draw).x_0.flatten()[:8] for draw in draws]
    assert len({tuple(values.tolist()) for values in noises}) == len(draws)
    rows = [{draw.row for draw in one.steps.latents.draw(step, 200)} for step in range(20)]
    shared = sum(len(a & b) / len(a) for a, b in itertools.pairwise(rows)) / 19
    assert shared < 0.5  # each step draws its own rows; about a quarter of so small a set is drawn in any step


@pytest.mark.parametrize(
    ("images", "videos", "measured"), [(20, 3, (3, 3)), (20, 1, (5, 1)), (2, 9, (2, 4)), (0, 9, (0, 6))]
)
def test_an_image_heavy_set_is_measured_on_its_videos_too(run, images, videos, measured):
    latents = task(run).steps.latents
    of_kind = [np.flatnonzero(kind)[0] for kind in (latents.index.rows["image"], ~latents.index.rows["image"])]
    chosen = np.repeat(of_kind, (images, videos))
    rows = {name: column[chosen] for name, column in latents.index.rows.items()}
    latents.index = replace(latents.index, rows=rows | {"held_out": np.ones(images + videos, bool)})
    found = [example.latent.shape[1] == 1 for example in latents.held_out(6)]
    assert (sum(found), len(found) - sum(found)) == measured


def test_losses_are_told_by_time_and_by_sample(run):
    one = task(run)
    step = one.prepare(0)
    for batch in step.batches:
        one.loss(one.model, batch)
    told = one.diagnose()
    assert any(name.startswith("loss_t0.") for name in told)
    assert {"loss_images", "loss_videos"} <= told.keys()
    assert one.diagnose() == {}
    rows = one.records()
    assert sum(row["tokens"] for row in rows) == step.figures["tokens"]
    assert {"dropped", "given", "merged"} >= {row["caption"] for row in rows}


def test_a_latent_with_nan_is_named(run, tmp_path):
    one = task(run)
    draw = one.steps.latents.draw(0, 1)[0]
    index = one.steps.latents.index
    entry = index.window(draw.row)
    nothing = torch.full(entry.shape, float("nan")).numpy()
    write_shard(tmp_path / entry.shard, {entry.key: nothing})
    broken = of(run, root=tmp_path)
    with pytest.raises(GokuError, match=f"clip {entry.clip}.*not what was written"):
        broken.read(draw)
    crc = index.rows["crc"].copy()
    crc[draw.row] = checksum(nothing)
    broken = of(run, other(index, crc=crc), tmp_path)
    with pytest.raises(GokuError, match=f"clip {entry.clip}.*NaN"):
        broken.read(draw)
    one.steps.latents.text(one.steps.latents.null_text)  # without this one nothing can be trained
    one.steps.latents._shards = broken._shards
    step = one.prepare(1)  # whatever cannot be read is left out and told, and the step is made without it
    assert step.lost
    assert all("damaged" in reason or "not what was written" in reason for reason in step.lost)
    one.steps.latents._shards = ShardReader(tmp_path / "gone")
    assert not any(batch.weight for batch in one.prepare(2).batches)
    with pytest.raises(GokuError, match="no sample of 3 steps in a row could be read.*missing"):
        one.prepare(3)


def test_rows_are_drawn_by_their_weight(run):
    index = Index.open(run.folder / "index")
    images = np.flatnonzero(index.rows["image"] & ~index.rows["held_out"])
    heavy, weight = images[0], index.rows["weight"].copy()
    weight[heavy] = 50.0
    skewed = of(run, other(index, weight=weight), image_share=1.0)
    skewed.text = lambda place: torch.zeros(1, 8)
    images = len(images)
    rows = [draw.row for step in range(20) for draw in skewed.draw(step, 200)]
    assert rows.count(heavy) / len(rows) == pytest.approx(50 / (50 + images - 1), abs=0.1)


def test_an_epoch_has_every_row_as_often_as_its_weight_says():
    order = EpochSampler(np.arange(100, 110), np.array([1.0] * 8 + [2.5, 0.5]), 0, "test")
    epochs = [order.from_on(n * 10, 10).tolist() for n in range(200)]
    assert all(epoch.count(row) in (0, 1, 2, 3) for epoch in epochs for row in order._rows)
    mean = {row: sum(epoch.count(row) for epoch in epochs) / 200 for row in range(100, 110)}
    share = 10 / 11
    assert mean == pytest.approx({**dict.fromkeys(range(100, 108), share), 108: 2.5 * share, 109: 0.5 * share}, abs=0.1)
    even = EpochSampler(np.arange(7), np.ones(7), 0, "even")
    assert sorted(even.from_on(7, 7)) == list(range(7))
    assert even.from_on(3, 16).tolist() == [int(even.from_on(at, 1)[0]) for at in range(3, 19)]  # across epochs
    assert len(even.from_on(3, 0)) == 0


def test_a_latent_is_read_once_and_stays_in_memory(run, monkeypatch):
    latents = task(run).steps.latents
    draw = latents.draw(0, 1)[0]
    first = latents.read(draw).latent
    monkeypatch.setattr(latents._shards, "read", None)
    assert torch.equal(latents.read(draw).latent, first)


class Counted:
    """Steps that are their numbers."""

    def __init__(self):
        self.drawn = []

    def prepare(self, step):
        self.drawn.append(step)
        return step

    def pass_over(self, step):
        self.drawn.append(step)


@pytest.mark.parametrize("first", [0, 1, 5])
def test_processes_take_turns_from_whatever_step_they_begin(monkeypatch, first):
    turns, wanted = [], list(range(first, first + 7))
    for number in range(3):
        monkeypatch.setattr(prefetch, "get_worker_info", lambda number=number: SimpleNamespace(id=number))
        steps = Counted()
        turns.append(list(prefetch._Turns(steps, first, first + 7, 3)))
        assert steps.drawn == wanted
    assert [step for turn in itertools.zip_longest(*turns) for step in turn if step is not None] == wanted
