"""Codecs: the linear one against scikit-learn's PCA, its scales and causality, and the tiny text encoder."""

import json

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from goku_cli.errors import GokuError, UsageError
from goku_cli.model.text.encoders import load_text_encoder
from goku_cli.model.vae.codec import Statistics, codec_fingerprint, latent_statistics, load_codec
from goku_cli.model.vae.linear_codec import LinearCodec, blocks, to_frames, to_unit, unblocks


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    smooth = [np.cumsum(rng.normal(size=(9, 32, 48, 3)), axis=1) * 8 + 128 for _ in range(6)]
    return [to_unit(clip.clip(0, 255).astype(np.uint8)) for clip in smooth]


def test_blocks_round_trip():
    video = torch.randn(3, 8, 16, 24)
    assert torch.equal(unblocks(blocks(video, 4), 4), video)


def test_frames_round_trip():
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(to_frames(to_unit(frames)), frames)


def test_linear_codec_is_pca(clips):
    codec = LinearCodec.fit(clips, channels=12)
    x = torch.cat([blocks(clip[:, 1:], 4).flatten(0, 2) for clip in clips]).double().numpy()
    oracle = PCA(12, svd_solver="full").fit(x)
    restored = [codec.decode(codec.moments(clip).mean_CTHW) for clip in clips]
    ours = torch.cat([blocks(clip[:, 1:], 4).flatten(0, 2) for clip in restored])
    theirs = oracle.inverse_transform(oracle.transform(x))
    np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-3)


def test_linear_codec_shapes_and_causality(clips):
    codec = LinearCodec.fit(clips, channels=12)
    latent = codec.moments(clips[0]).mean_CTHW
    assert latent.shape == (12, 3, 4, 6)
    assert codec.decode(latent).shape == clips[0].shape
    assert codec.moments(clips[0][:, :1]).mean_CTHW.shape == (12, 1, 4, 6)
    later = clips[0].clone()
    later[:, 5:] = 0
    torch.testing.assert_close(codec.moments(later).mean_CTHW[:, :2], latent[:, :2])


def test_first_frames_and_later_blocks_have_unit_variance_and_keep_their_spectrum(clips):
    codec = LinearCodec.fit(clips, channels=12)
    latents = [codec.moments(clip).mean_CTHW for clip in clips]
    for part in (slice(0, 1), slice(1, None)):
        variance_C = torch.cat([latent[:, part].flatten(1) for latent in latents], dim=1).var(dim=1)
        assert float(variance_C.mean()) == pytest.approx(1, rel=0.05)
        assert variance_C[0] > 1.2 * variance_C[-1]


@pytest.mark.parametrize("clip", [torch.rand(3, 1, 16, 16), torch.zeros(3, 5, 16, 16)], ids=["image", "one color"])
def test_what_tells_nothing_of_later_frames_leaves_a_codec_that_can_be_used(clip):
    codec = LinearCodec.fit([clip], channels=2)
    assert all(x.isfinite().all() for x in codec.tensors.values())
    assert codec.tensors["later.scale"] == 1


def test_codec_folder_round_trip(clips, tmp_path):
    codec = LinearCodec.fit(clips, channels=8)
    codec.save(tmp_path)
    torch.testing.assert_close(load_codec(tmp_path).moments(clips[0]), codec.moments(clips[0]))
    assert len(codec_fingerprint(tmp_path)) == 16


def test_the_sets_statistics_come_before_the_codecs(clips):
    codec = LinearCodec.fit(clips, channels=2)
    assert latent_statistics({}, codec) == codec.statistics == Statistics((0.0, 0.0), (1.0, 1.0))
    found = latent_statistics({"statistics": {"mean": [1.0, 2.0], "std": [3.0, 4.0]}}, codec)
    x_CTHW = found.normalize(torch.tensor([4.0, 10.0]).view(2, 1, 1, 1))
    assert x_CTHW.flatten().tolist() == [1.0, 2.0]
    assert found.restore(x_CTHW).flatten().tolist() == [4.0, 10.0]


def test_a_linear_codec_tells_which_frames_it_takes(clips):
    with pytest.raises(UsageError, match="4k\\+1 frames, not 8; give 5 or 9"):
        LinearCodec.fit(clips, channels=2).moments(clips[0][:, :8])


def test_an_older_gokus_file_says_what_to_do(clips, tmp_path):
    codec = LinearCodec.fit(clips, channels=2)
    del codec.tensors["later.scale"]
    codec.save(tmp_path)
    with pytest.raises(GokuError, match="lacks later.scale; remove .* and encode again"):
        load_codec(tmp_path)


def test_folder_without_codec_says_what_to_type(tmp_path):
    with pytest.raises(UsageError, match=r"goku train recipes/vae.toml"):
        load_codec(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"codec": "linaer"}))
    with pytest.raises(UsageError, match='did you mean "linear"'):
        load_codec(tmp_path)


def test_tiny_text_encoder_is_the_same_every_time_and_tells_order():
    first, second = load_text_encoder("tiny"), load_text_encoder("tiny")
    states = first.encode("a red circle")
    assert torch.equal(states, second.encode("a red circle"))
    assert states.shape == (len("a red circle") + 1, first.dim)
    assert first.encode("").shape == (1, first.dim)
    swapped = first.encode("a circle red")
    assert not torch.allclose(states.mean(0), swapped.mean(0), atol=1e-2)


def test_missing_text_weights_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match="no t5 weights"):
        load_text_encoder(f"t5:{tmp_path}")
    with pytest.raises(UsageError, match="known: tiny"):
        load_text_encoder("flan")


def test_words_have_a_row_each_which_knows_its_neighbors():
    encoder = load_text_encoder("words")
    states = encoder.encode("a red circle")
    assert torch.equal(states, load_text_encoder("words").encode("A red  circle"))
    assert states.shape == (4, encoder.dim) and encoder.count("a red circle") == 4
    assert encoder.encode("").shape == (1, encoder.dim)
    assert encoder.encode("circle, red: 3.").shape[0] == 7  # marks are words too
    red, blue = states[1], encoder.encode("a red square")[1]
    assert 0.5 < torch.cosine_similarity(red, blue, dim=0) < 0.95  # the same word before another one
    rows = torch.cat([encoder.encode(f"{color} {i}") for color in ("red", "blue", "green") for i in range(50)])
    assert float(rows.std()) == pytest.approx(1, abs=0.05)


def test_words_beyond_the_most_are_cut_before_the_end_mark():
    encoder = load_text_encoder("words")
    long = "red " * 400
    assert len(encoder.encode(long)) == encoder.most_tokens < encoder.count(long)
    torch.testing.assert_close(encoder.encode(long)[-2], encoder.encode("red " * (encoder.most_tokens - 1))[-2])


def test_an_encoder_of_berts_class_is_read_from_its_folder(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "a", "red", "circle"]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=len(words), **sizes)).eval()
    model.save_pretrained(tmp_path)
    encoder = load_text_encoder(f"bert:{tmp_path}")
    expected = model(input_ids=torch.tensor([[2, 3, 4]])).last_hidden_state[0]
    torch.testing.assert_close(encoder.encode("a red circle"), expected)
    assert (encoder.dim, encoder.count("a red circle")) == (16, 3)
