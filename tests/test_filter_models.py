"""The scorers of other people's models, run through the real libraries with small random weights."""

import numpy as np
import pytest
import torch
from conftest import Published
from films import film, shot, texture

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
from goku_cli.weights import AESTHETIC, ALL


def moving(seed=1, frames=17, speed=4):
    return SampledClip(tuple(np.ascontiguousarray(frame) for frame in shot(seed, frames, 136, 160, speed=speed)))


def still(seed=1):
    return SampledClip((texture(seed, 136, 160)[:, :160],) * 17)


def test_dinov2_is_one_for_a_still_and_less_for_a_cut(weights):
    cut = SampledClip((*still(1).frames[:8], *still(2).frames[:8]))
    alone, changed, image = dinov2.load()([still(), cut, SampledClip(still().frames[:1])])
    assert alone == pytest.approx(1.0) and image == 1.0 and changed < 0.9999


def test_split_can_compare_by_dinov2(weights, tmp_path):
    film(tmp_path / "raw" / "a.mp4", [(1, 48)])
    with Manifest(tmp_path / "a.duckdb", create=True) as manifest:
        ingest(manifest, find_media([tmp_path / "raw"]), load_rules("none"), workers=1)
        split(manifest, SplitSettings(similarity="dinov2", min_similarity=1.5), workers=1)
        assert manifest.value("SELECT count(*) FROM clips WHERE opened_by = 'similarity'") == 1


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
        assert f"no weights at {tmp_path}/none/{part.name}, for {part.used_by}; get them with: " in str(raised.value)
    with pytest.raises(GokuError, match="hf download facebook/dinov2-base"):
        dinov2.load()
