"""Class-conditional training: captions are labels; and first frames that are left out."""

import json
from dataclasses import replace

import pytest
import torch
from encoded import make_encoded
from safetensors.torch import save_file
from test_flow_task import RECIPE
from transformers_small import CONFIG, awake

from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.model.network.packing import pack, unpack
from goku_cli.train.data.batches import first_frame, last_frame
from goku_cli.train.distributed.sharded_init import build_model
from goku_cli.train.distributed.topology import Ranks
from goku_cli.train.prepare import prepare
from goku_cli.train.tasks.build import make_task, nothing

MODEL = {"text_dim": 0, "image_condition": True, "last_frame": True}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make_encoded(tmp_path_factory.mktemp("classes"), videos=2, images=8)


def recipe(classes, **flow):
    return replace(RECIPE, model={**MODEL, "classes": classes}, flow=replace(RECIPE.flow, **flow))


def prepared(path, wanted):
    with Manifest(path) as manifest:
        names = [row["text"] for row in manifest.query("SELECT DISTINCT text FROM captions WHERE kind = 'merged'")]
        return prepare(manifest, "small", wanted(len(names)), "classes", path.parent / "runs"), sorted(names)


def test_every_caption_is_a_label_and_a_dropped_one_is_the_last(path):
    run, names = prepared(path, lambda n: recipe(n, text_dropout=0.5, image_dropout=0.5))
    plan = json.loads((run.folder / "recipe.json").read_text())
    assert [row["text"] for row in plan["data"]["classes"]] == names
    task = made(run)
    draws = [draw for step in range(20) for draw in task.steps.latents.draw(step, 200)]
    examples = [task.steps.latents.read(draw) for draw in draws]
    labels = {example.source == "dropped": set() for example in examples}
    for draw, example in zip(draws, examples, strict=True):
        labels[example.source == "dropped"].add(example.label)
        if example.source != "dropped" and draw.text.key in {row["key"] for row in plan["data"]["classes"]}:
            assert plan["data"]["classes"][example.label]["key"] == draw.text.key
    assert labels[True] == {len(names)} and labels[False] - {len(names)}
    videos = [example for example in examples if example.latent.shape[1] > 1]
    shown = {(first_frame(example) is not None, last_frame(example) is not None) for example in videos}
    assert shown == {(False, False), (True, False), (True, True)}
    (batch, *_) = task.prepare(0).batches
    assert len(batch.x_t.labels) == len(batch.x_t.shapes) and not len(batch.x_t.text)
    task.loss(task.model, batch).backward()


def made(run):
    return make_task(run.folder, json.loads((run.folder / "recipe.json").read_text()), run.recipe, Ranks())


def test_a_clip_is_given_its_own_first_and_last_latent_frames(path):
    run, _ = prepared(path, recipe)
    steps = made(run).steps
    examples = [replace(example, use_last_frame=bool(i % 2)) for i, example in enumerate(steps.latents.held_out(9))]
    t_B = torch.full((len(examples),), 0.5)
    x_t = steps.corrupted(examples, t_B, 1.0, 0).x_t
    frames = zip(examples, unpack(x_t.first_frames, x_t.shapes), unpack(x_t.last_frames, x_t.shapes), strict=True)
    seen = set()
    for example, first, last in frames:
        clip, video = example.latent, example.latent.shape[1] > 1
        assert torch.equal(first, clip[:, [0] * clip.shape[1]] if video else torch.zeros_like(clip))
        assert torch.equal(
            last, clip[:, [-1] * clip.shape[1]] if video and example.use_last_frame else torch.zeros_like(clip)
        )
        seen.add((video, example.use_last_frame))
    assert {(False, False), (True, False), (True, True)} <= seen


def test_a_model_of_first_frames_becomes_one_of_last_frames_too_and_is_the_same_until_it_gets_any(tmp_path):
    before = awake(replace(CONFIG, image_condition=True), torch.float32)
    save_file(before.state_dict(), tmp_path / "ema.safetensors")
    config = replace(CONFIG, image_condition=True, last_frame=True)
    after = build_model(config, 0, tmp_path / "ema.safetensors", nothing)
    clip, text = torch.randn(4, 2, 4, 4), torch.randn(3, 12)
    given = pack([clip], [text], first_frames=[clip[:, :1]], last_frames=[clip[:, -1:]])
    t = torch.rand(1)
    torch.testing.assert_close(after(given, t), before(given, t))
    with pytest.raises(GokuError, match="do not fit"):
        save_file(before.state_dict() | {"more": torch.zeros(1)}, tmp_path / "more.safetensors")
        build_model(config, 0, tmp_path / "more.safetensors", nothing)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_run_draws_the_share_of_images_that_its_recipe_says(path, share):
    run, _ = prepared(path, lambda n: recipe(n, image_share=share))
    latents = made(run).steps.latents
    drawn = [latents.index.window(draw.row).shape[1] == 1 for step in range(5) for draw in latents.draw(step, 200)]
    assert set(drawn) == {bool(share)}


def test_another_number_of_classes_is_refused(path):
    with pytest.raises(UsageError, match=r"distinct captions .* classes says"):
        prepared(path, lambda n: recipe(n + 1))


def test_a_model_does_not_choose_the_width_of_its_data(path):
    with pytest.raises(UsageError, match="text_dim = 0 reads no text"):
        prepared(path, lambda n: replace(recipe(n), model={"text_dim": 5}))
