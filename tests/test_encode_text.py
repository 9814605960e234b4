"""Text states as they are stored: their rows, their type, and what a model and its costs make of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from encoded import make_encoded

from goku_cli.encode import caption
from goku_cli.encode.encode import encode_latents
from goku_cli.encode.settings import EncodeSettings
from goku_cli.errors import Fault, GokuError
from goku_cli.manifest.shards import ShardReader
from goku_cli.manifest.store import Manifest
from goku_cli.model.flops import forward_flops
from goku_cli.model.packing import pack
from goku_cli.model.presets import model_config
from goku_cli.model.text import load_text_encoder
from goku_cli.stage import Quiet


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


def test_states_that_half_precision_does_not_hold_are_refused_with_a_hint(monkeypatch):
    class Loud:
        def encode(self, text):
            return torch.full((2, 3), 1e6)

        def count(self, text):
            return 2

    monkeypatch.setattr(caption, "_text_encoder", lambda name: Loud())
    with pytest.raises(Fault, match="its text states hold NaN or infinity in float16; try --dtype float32"):
        caption.encode_text(("a", "tiny", "id", "float16"))
    assert caption.encode_text(("a", "tiny", "id", "float32")).insert["text_states"][0]["tokens"] == 2


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
