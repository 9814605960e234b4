"""What is stored of a posterior, and what training makes of it: moments, statistics, mirrored windows, devices."""

import json
import shutil

import numpy as np
import pytest
import torch
from encoded import make_encoded, tiny_wan

from goku_cli.encode.beside import write_beside
from goku_cli.encode.encode import encode_latents, remarks
from goku_cli.encode.settings import EncodeSettings
from goku_cli.encode.verify import verify_latents
from goku_cli.errors import UsageError
from goku_cli.manifest.shards import ShardReader
from goku_cli.manifest.store import Manifest
from goku_cli.media.frames import read_frames
from goku_cli.model.objective.noise import noise
from goku_cli.model.vae.codec import Statistics
from goku_cli.recipe import build
from goku_cli.stage import Quiet
from goku_cli.train.data.index import Index, TensorRef
from goku_cli.train.data.sampler import Latents
from goku_cli.train.prepare import _vae, prepare
from goku_cli.train.recipe import Recipe, TrainConfig

RECIPE = Recipe("flow", TrainConfig(steps=1, tokens_per_step=100, lr=1e-3), size="nano")


def encode(path, selection="small", **given):
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        device = given.pop("device", None)
        outcomes = encode_latents(
            manifest, selection, EncodeSettings(**given), workers=1, progress=Quiet(), device=device
        )
        return outcomes, remarks(manifest, EncodeSettings(**given))


def latents(path, encoder):
    """All tensors of an encoder by key."""
    with Manifest(path, read_only=True) as manifest:
        reader = ShardReader(path.parent)
        rows = manifest.query("SELECT shard, key, logvar FROM latents WHERE encoder = ? ORDER BY key", [encoder])
    found = {}
    for row in rows:
        for key in [row["key"], f"{row['key']}.logvar"] if row["logvar"] else [row["key"]]:
            found[key] = reader.read(row["shard"], key)
    return found


def newest(path):
    with Manifest(path, read_only=True) as manifest:
        return newest_of(manifest)


def newest_of(manifest):
    return manifest.value("SELECT id FROM encoders WHERE kind = 'vae' ORDER BY run DESC LIMIT 1")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A manifest whose newest encoder is a small Wan VAE, windows mirrored."""
    path = make_encoded(tmp_path_factory.mktemp("moments"), videos=2, images=4)
    encode(path, vae=str(tiny_wan(path.parent / "wan")), windows=2, flip=True)
    with Manifest(path) as manifest:  # the linear codec's are not trained on here
        manifest.execute("DELETE FROM latents WHERE NOT logvar")
    return path


def test_every_window_has_its_mirror_and_both_moments(path):
    with Manifest(path, read_only=True) as manifest:
        rows = manifest.query("SELECT * FROM latents")
        pairs = manifest.query("SELECT clip, start_us FROM latents GROUP BY ALL HAVING count(DISTINCT flipped) = 2")
        assert manifest.verify() == []
    assert len(rows) == 2 * len(pairs) == 2 * (2 * 2 + 4)
    found = latents(path, newest(path))
    assert {x.dtype for x in found.values()} == {np.dtype("float16")}
    for row in rows:
        assert list(found[row["key"]].shape) == list(found[row["key"] + ".logvar"].shape) == row["shape"]


def test_statistics_are_those_of_the_tensors_and_normalize_what_is_trained_on(path):
    found = [x for key, x in latents(path, newest(path)).items() if not key.endswith(".logvar")]
    values = np.concatenate([x.astype(float).reshape(len(x), -1) for x in found], axis=1)
    with Manifest(path) as manifest:
        run = prepare(manifest, "small", RECIPE, "r", path.parent / "runs")
    plan = json.loads((run.folder / "recipe.json").read_text())
    assert plan["data"]["statistics"]["mean"] == pytest.approx(values.mean(1))
    assert plan["data"]["statistics"]["std"] == pytest.approx(values.std(1), rel=1e-6)
    index = Index.open(run.folder / "index")
    frozen = build(Statistics, plan["data"]["statistics"], where="plan")
    data = Latents(index, frozen, path.parent, TensorRef(*plan["null_text"]), seed=0, image_share=0.5, text_dropout=0.0)
    for draw in data.draw(0, 200):
        stored = latents(path, newest(path))[index.window(draw.row).key].astype(float)
        expected = (stored - values.mean(1)[:, None, None, None]) / values.std(1)[:, None, None, None]
        np.testing.assert_allclose(data.read(draw).latent.numpy(), expected, atol=1e-5)


def test_a_sample_of_the_posterior_is_keyed_and_has_its_deviation(path):
    with Manifest(path) as manifest:
        run = prepare(manifest, "small", RECIPE, "r", path.parent / "runs")
    plan = json.loads((run.folder / "recipe.json").read_text())
    about = (
        Index.open(run.folder / "index"), build(Statistics, plan["data"]["statistics"], where="plan"), path.parent,
        TensorRef(*plan["null_text"]),
    )  # fmt: skip

    data = [Latents(*about, seed=0, image_share=0.5, text_dropout=0.0, sample_posterior=s) for s in (True, True, False)]
    stored = latents(path, newest(path))
    for step in (0, 1):
        draws = [one.draw(step, 1)[0] for one in data]
        once, again, mean = (one.read(draw).latent for one, draw in zip(data, draws, strict=True))
        assert torch.equal(once, again)
        logvar = torch.from_numpy(stored[f"{data[0].index.window(draws[0].row).key}.logvar"]).float()
        deviation = logvar.exp().sqrt() / torch.tensor(about[1].std)[:, None, None, None]
        drawn = noise(tuple(mean.shape), "posterior", *draws[0].key)
        torch.testing.assert_close(once, mean + deviation * drawn, atol=1e-4, rtol=1e-4)


def test_the_parent_encodes_what_workers_would(path):
    here, elsewhere = newest(path), path.parent / "parent"
    other = make_encoded(elsewhere, videos=2, images=4)
    encode(other, vae=str(tiny_wan(elsewhere / "wan")), windows=2, flip=True, device="cpu")
    assert newest(other) == here  # same weights and settings, same encoder, wherever they lie
    ours, theirs = latents(path, here), latents(other, here)
    assert ours.keys() == theirs.keys()
    for key, x in ours.items():
        np.testing.assert_array_equal(x, theirs[key])


def test_verify_encodes_again_and_finds_what_is_off(path, tmp_path):
    folder = shutil.copytree(path.parent, tmp_path / "copy")
    with Manifest(folder / path.name) as manifest:
        found = verify_latents(manifest, 50)
        assert (found.windows, found.worst, found.broken) == (16, 0, [])
        key = manifest.value("SELECT min(key) FROM latents")
        manifest.execute("UPDATE latents SET flipped = NOT flipped WHERE key = ?", [key])
        assert [line.split()[1] for line in verify_latents(manifest, 50).broken] == [key]
        manifest.execute("UPDATE latents SET flipped = NOT flipped WHERE key = ?", [key])
        manifest.execute("UPDATE source_paths SET path = path || '.gone'")
        assert all("vanished" in line for line in verify_latents(manifest, 5).broken)
        shard = folder / manifest.value("SELECT any_value(shard) FROM latents")
        whole = shard.read_bytes()
        shard.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
        assert manifest.verify() == []  # by its size it is whole
        assert "is not what was written" in verify_latents(manifest, 0).broken[0]


def test_tiles_make_an_encoder_of_their_own_that_verify_and_decode_know(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=1)
    wan = str(tiny_wan(tmp_path / "wan"))
    encode(path, vae=wan, size="96x160", windows=1)
    whole = newest(path)
    encode(path, vae=wan, size="96x160", windows=1, tile=64)
    ours, theirs = latents(path, whole), latents(path, newest(path))
    assert all(np.abs(x.astype(float) - theirs[key]).max() > 0 for key, x in ours.items())
    with Manifest(path) as manifest:
        manifest.execute("DELETE FROM latents WHERE encoder <> ?", [newest_of(manifest)])
        assert vars(verify_latents(manifest, 9)) == {"windows": 2, "shards": 4, "worst": 0.0, "broken": []}
        clip = manifest.clip(manifest.value("SELECT clip FROM latents WHERE frames = 1"))
        assert write_beside(manifest, clip, tmp_path / "beside.png") == 1
    for wrong, message in (({"tile": 50, "vae": wan}, "multiple of 32"), ({"tile": 64}, "leave --tile out")):
        with pytest.raises(UsageError, match=message):
            encode(path, **wrong)


def test_checksums_find_what_is_not_what_was_encoded(path):
    with Manifest(path) as manifest:
        key = manifest.value("SELECT min(key) FROM latents")
        manifest.execute("UPDATE latents SET crc = crc + 1 WHERE key = ?", [key])
        (line,) = verify_latents(manifest, 50).broken
        manifest.execute("UPDATE latents SET crc = crc - 1 WHERE key = ?", [key])
    assert line.split()[1] == key
    assert "checksum" in line


def test_nan_is_a_failure_and_no_row(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=2)
    folder = tiny_wan(tmp_path / "broken", weight=float("nan"))
    (clips, _), _ = encode(path, vae=str(folder))
    assert (clips.done, clips.failed) == (0, 3)
    assert "NaN" in clips.example["internal"]


def test_another_vae_in_the_same_folder_is_refused(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=3)
    encode(path, vae=str(tiny_wan(tmp_path / "wan")))
    tiny_wan(tmp_path / "wan", weight=0.5)
    with Manifest(path) as manifest:
        manifest.execute("DELETE FROM latents WHERE NOT logvar")
        with pytest.raises(UsageError, match="not the VAE that made these latents"):
            prepare(manifest, "small", RECIPE, "r", tmp_path / "runs")


def test_a_checkpoint_goes_on_with_the_vae_that_it_knows(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=3)
    with Manifest(path) as manifest:
        known = json.loads(manifest.value("SELECT settings FROM encoders WHERE kind = 'vae'"))["codec_sha256"]
        linear = manifest.value("SELECT id FROM encoders WHERE kind = 'vae'")
    encode(path, vae=str(tiny_wan(tmp_path / "wan")))  # newer, and of as many clips
    with Manifest(path) as manifest:
        assert _vae(manifest, "small", None)["id"] != linear
        assert _vae(manifest, "small", {"data": {"codec_sha256": known}})["id"] == linear
        with pytest.raises(UsageError, match="encode with --vae weights/vae"):
            _vae(manifest, "small", {"data": {"codec_sha256": "another", "codec": "weights/vae"}})


def test_short_clips_and_long_captions_are_counted(tmp_path):
    path = make_encoded(tmp_path, videos=2, images=1)
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        clip = manifest.value("SELECT min(clip) FROM selections")
        manifest.insert("captions", [{"clip": clip, "kind": "merged", "text": "a red circle " * 40}])
    _, lines = encode(path, frames=17)
    assert [line.split(" (")[0] for line in lines] == [
        "2 clips are shorter than 17 frames; their windows are as long as they allow",
        "1 captions were cut at 256 tokens",
    ]


def test_a_clip_beside_its_latents(path):
    with Manifest(path, read_only=True) as manifest:
        for which, name, count in (("> 1", "beside.mp4", 2), ("= 1", "beside.png", 1)):
            clip = manifest.clip(manifest.value(f"SELECT min(clip) FROM latents WHERE frames {which}"))
            assert write_beside(manifest, clip, path.parent / name) == count
            ((_, first), *_) = read_frames(path.parent / name)
            assert first.shape == (48, 160, 3)
            with pytest.raises(UsageError, match="name a"):
                write_beside(manifest, clip, path.parent / "beside.txt")
