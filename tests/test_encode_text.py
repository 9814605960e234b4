"""Text states as they are stored: their rows, their type, and what a model and its costs make of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from encoded import make_encoded
from transformers import BertConfig, BertModel, BertTokenizer, ByT5Tokenizer, T5Config, T5EncoderModel

from goku_cli.encode.caption import encode_texts
from goku_cli.encode.encode import encode_latents
from goku_cli.encode.settings import EncodeSettings
from goku_cli.errors import Fault, GokuError
from goku_cli.manifest.shards import ShardReader
from goku_cli.manifest.store import Manifest
from goku_cli.model.network.flops import forward_flops
from goku_cli.model.network.packing import pack
from goku_cli.model.network.presets import model_config
from goku_cli.model.text.encoders import as_int8, from_stored, load_text_encoder
from goku_cli.stage import Quiet
from goku_cli.train.distributed.topology import Ranks
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import Recipe, TrainConfig
from goku_cli.train.tasks.build import make_task


def test_states_have_the_type_of_latents_and_an_encoder_for_each(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=2)
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        settings = EncodeSettings(channels=8, windows=2, dtype="float32")
        _, texts = encode_latents(manifest, "small", settings, workers=1, progress=Quiet())
        assert texts.done
        reader, by_text = ShardReader(path.parent), {}
        for row in manifest.query("SELECT t.*, settings FROM text_states AS t JOIN encoders ON id = encoder"):
            x = reader.read(row["shard"], row["key"])
            assert x.dtype.name == json.loads(row["settings"])["dtype"]
            by_text.setdefault(row["text_id"], {})[x.dtype.name] = x
        for found in by_text.values():
            np.testing.assert_array_equal(found["float16"], found["float32"].astype("float16"))


def test_states_that_half_precision_does_not_hold_are_refused_with_a_hint():
    class Loud:
        def encode_all(self, texts):
            return [torch.full((2, 3), 1e6) for _ in texts]

        def count(self, text):
            return 2

    with pytest.raises(Fault, match="its text states hold NaN or infinity in float16; try --dtype float32"):
        encode_texts(Loud(), "id", "float16", ["a"])
    assert encode_texts(Loud(), "id", "float32", ["a"])[0].insert["text_states"][0]["tokens"] == 2


TEXTS = ["", "a red circle", "two blue squares, and a green cross that moves to the left slowly", "a red circle " * 40]


@pytest.fixture(scope="module", params=["tiny", "words", "t5", "bert"])
def encoder(request, tmp_path_factory):
    """One of each class; of random weights where they are published ones."""
    if request.param in ("tiny", "words"):
        return load_text_encoder(request.param)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "t5":
        T5EncoderModel(
            T5Config(vocab_size=384, d_model=32, d_kv=8, d_ff=64, num_heads=4, num_layers=2)
        ).save_pretrained(folder)
        ByT5Tokenizer(extra_ids=0).save_pretrained(folder)
    else:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "circle", "blue", "squares", "two", "the"]
        (folder / "vocab.txt").write_text("\n".join(words))
        config = BertConfig(
            vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
        )
        BertModel(config).save_pretrained(folder)
        BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return load_text_encoder(f"{request.param}:{folder}")


def test_captions_that_are_encoded_together_have_the_states_of_each_alone(encoder):
    together = encoder.encode_all(TEXTS)
    assert [len(states) for states in together] == [min(encoder.count(t), encoder.most_tokens) for t in TEXTS]
    for text, states in zip(TEXTS, together, strict=True):
        assert states.dtype == torch.float32
        torch.testing.assert_close(states, encoder.encode(text), atol=2e-5, rtol=2e-5)


def test_states_in_bytes_are_off_by_half_a_step_at_most(encoder):
    exact = encoder.encode(TEXTS[2])
    stored = as_int8(exact.numpy())
    assert (stored.dtype, stored.shape) == (np.int8, (len(exact), encoder.dim + 4))
    steps = exact.abs().amax(1, keepdim=True) / 127
    assert ((from_stored(stored) - exact).abs() <= steps * 0.501).all()
    assert not from_stored(as_int8(np.zeros((2, 5), np.float32))).any()


def test_a_run_learns_from_states_in_bytes(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=5)
    recipe = Recipe("flow", TrainConfig(steps=1, tokens_per_step=60, lr=1e-3), size="nano")
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        for kind in ("float32", "int8"):
            settings = EncodeSettings(channels=8, windows=2, text_dtype=kind)
            clips, texts = encode_latents(manifest, "small", settings, workers=1, progress=Quiet())
            assert (clips.done, clips.failed, texts.failed) == (0, 0, 0)  # latents are as they were
            assert texts.done
        run = prepare(manifest, "small", recipe, "r", tmp_path / "runs")
        rows = manifest.query("SELECT text_id, shard, key, settings FROM text_states JOIN encoders ON id = encoder")
    plan = json.loads((run.folder / "recipe.json").read_text())
    assert plan["model"]["text_dim"] == 96
    latents = make_task(run.folder, plan, recipe, Ranks()).steps.latents
    text = latents.read(latents.draw(0, 1)[0]).text
    reader = ShardReader(tmp_path)
    exact = [reader.read(r["shard"], r["key"]) for r in rows if json.loads(r["settings"])["dtype"] == "float32"]
    assert min(np.abs(x - text.numpy()).max() for x in exact if x.shape == text.shape) < 0.05


def test_states_in_half_precision_are_packed_like_their_float32_twins():
    states = load_text_encoder("tiny").encode("a red circle").half()
    latents = [torch.randn(4, 1, 4, 4)] * 2
    packed = pack(latents, [states, states[:1]], text_rows=20)
    assert packed.text.dtype == torch.float32
    assert packed.words.lengths == (20, 20)
    assert torch.equal(packed.text[: len(states)], states.float())
    assert not packed.text[len(states) : 20].any()
    assert pack(latents, [states, states[:1]], text_rows=5).words.lengths == (len(states), 5)  # nothing is cut


def test_filled_rows_are_counted_among_the_operations():
    config = model_config("nano", latent_channels=4, text_dim=96)
    wan = replace(config, text_rows=512)
    assert forward_flops(wan, 100, 9) == forward_flops(config, 100, 512)
    assert forward_flops(wan, 100, 600) == forward_flops(config, 100, 600)
    with pytest.raises(GokuError, match="text_rows"):
        replace(config, text_rows=-1)
