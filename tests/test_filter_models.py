"""The scorers of other people's models, run through the real libraries with small random weights."""

import json

import easyocr
import numpy as np
import open_clip
import pytest
import torch
from films import film, shot, texture
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

from goku_cli.errors import GokuError
from goku_cli.filter import clip as clip_room
from goku_cli.filter import craft, dinov2, raft
from goku_cli.filter.measure import measure
from goku_cli.filter.sampled import SampledClip
from goku_cli.filter.scorers import in_use
from goku_cli.ingest.ingest import ingest
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest
from goku_cli.split.settings import SplitSettings
from goku_cli.split.split import split
from goku_cli.vision.clip import encoder
from goku_cli.weights import AESTHETIC, ALL, CLIP, CRAFT, DINOV2, RAFT

TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


class Published(torch.nn.Module):
    """The aesthetic predictor as its authors wrote it, dropout and all."""

    def __init__(self):
        super().__init__()
        linear, drop = torch.nn.Linear, torch.nn.Dropout
        self.layers = torch.nn.Sequential(
            linear(32, 1024), drop(0.2), linear(1024, 128), drop(0.2), linear(128, 64), drop(0.1), linear(64, 16),
            linear(16, 1),
        )  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with small random weights of every model, as `goku` looks for them."""
    patch = pytest.MonkeyPatch()
    patch.setenv("GOKU_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    Dinov2Model(Dinov2Config(**size)).save_pretrained(DINOV2.place)
    BitImageProcessor().save_pretrained(DINOV2.place)
    CLIP.place.mkdir()
    described = {"model_cfg": TINY_CLIP, "preprocess_cfg": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}}
    (CLIP.place / "open_clip_config.json").write_text(json.dumps(described))
    (CLIP.place / "small.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(CLIP.place / "small.json")
    from safetensors.torch import save_file

    save_file(open_clip.create_model("small").state_dict(), CLIP.place / "open_clip_model.safetensors")
    torch.save(Published().state_dict(), AESTHETIC.place)
    from torchvision.models.optical_flow import raft_large

    torch.save(raft_large(weights=None).state_dict(), RAFT.place)
    CRAFT.place.parent.mkdir()
    from easyocr.craft import CRAFT as Network

    torch.save(Network(pretrained=False).state_dict(), CRAFT.place)
    patch.setitem(easyocr.config.detection_models["craft"], "md5sum", easyocr.utils.calculate_md5(str(CRAFT.place)))
    encoder.cache_clear()
    yield CLIP.place.parent
    patch.undo()
    encoder.cache_clear()


def moving(seed=1, frames=17, speed=4):
    return SampledClip(tuple(np.ascontiguousarray(frame) for frame in shot(seed, frames, 136, 160, speed=speed)))


def still(seed=1):
    return SampledClip((texture(seed, 136, 160)[:, :160],) * 17)


def test_dinov2_is_one_for_a_still_and_less_for_a_cut(weights):
    cut = SampledClip((*still(1).frames[:8], *still(2).frames[:8]))
    alone, changed, image = dinov2.load()([still(), cut, SampledClip(still().frames[:1])])
    assert alone == pytest.approx(1.0) and image == 1.0 and changed < 0.9999


def test_the_aesthetic_predictor_is_the_published_one(weights):
    clips = [moving(1), moving(2)]
    published = Published().eval()
    published.load_state_dict(torch.load(AESTHETIC.path(), weights_only=True))
    rows = clip_room._features(clips)
    wanted = [float(published.layers(features).mean()) for features in rows]
    assert clip_room.load_aesthetic()(clips) == pytest.approx(wanted, rel=1e-5)
    assert rows[0].shape == (3, 32) and rows[0].norm(dim=1) == pytest.approx(torch.ones(3))


def test_questions_give_probabilities_and_share_one_encoding(weights):
    clips = [moving(1), moving(2)]
    for load in (clip_room.load_nsfw, clip_room.load_watermark):
        assert all(0 < chance < 1 for chance in load()(clips))
    assert all(clip in clip_room._known for clip in clips)


def test_raft_and_easyocr_run(weights):
    flow = raft.load()([moving(frames=5), SampledClip(moving().frames[:1])])
    assert flow[0] > 0 and flow[1] == 0.0
    assert 0.0 <= craft.load()([SampledClip(moving().frames[:1])])[0] <= 1.0


def test_models_and_workers_in_one_pass(weights, tmp_path):
    film(tmp_path / "raw" / "a.mp4", [(1, 40), (2, 40)], height=136)
    with Manifest(tmp_path / "a.duckdb", create=True) as manifest:
        ingest(manifest, find_media([tmp_path / "raw"]), load_rules("none"), workers=1)
        split(manifest, SplitSettings(), workers=1)
        scorers = in_use(["dinov2", "laion", "clip-nsfw"])
        assert measure(manifest, scorers, workers=2, timeout=60).done == 2
        found = {row["scorer"] for row in manifest.query("SELECT DISTINCT scorer FROM scores")}
        assert {"dinov2@1", "laion@1", "clip-nsfw@1", "dis@1"} <= found and "layout@1" not in found
        assert measure(manifest, in_use([]), workers=1, timeout=60).done == 2  # the others keep their figures
        assert manifest.value("SELECT count(*) FROM scores WHERE metric = 'dino_sim'") == 4
        assert manifest.verify() == []


def test_missing_weights_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv("GOKU_WEIGHTS", str(tmp_path / "none"))
    for part in ALL:
        with pytest.raises(GokuError) as raised:
            part.path()
        assert f"needs {tmp_path}/none/{part.name}; get it with: " in str(raised.value)
    with pytest.raises(GokuError, match="hf download facebook/dinov2-base"):
        dinov2.load()
