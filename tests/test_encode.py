"""encode-latents on real files: windows, receipts, damage, and reading back."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from encoded import make_encoded

from goku_cli.encode import codec
from goku_cli.encode.caption import text_id
from goku_cli.encode.encode import encode_latents
from goku_cli.encode.settings import EncodeSettings
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.shards import ShardReader
from goku_cli.manifest.store import Manifest
from goku_cli.media.window import crop_to, read_windows
from goku_cli.model.vae.codec import load_codec
from goku_cli.model.vae.linear_codec import to_frames, to_unit
from goku_cli.stage import Quiet


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make_encoded(tmp_path_factory.mktemp("encoded"), videos=2, images=6)


def test_rows_point_at_tensors_of_their_shape(path):
    with Manifest(path) as manifest:
        reader = ShardReader(path.parent)
        rows = manifest.query("SELECT * FROM latents ORDER BY key")
        assert {row["frames"] for row in rows} == {1, 9}
        for row in rows:
            assert list(reader.read(row["shard"], row["key"]).shape) == row["shape"]
        texts = manifest.query("SELECT * FROM text_states")
        for row in texts:
            assert len(reader.read(row["shard"], row["key"])) == row["tokens"]
        said = {row["text"] for row in manifest.query("SELECT text FROM captions")} | {""}
        assert {row["text_id"] for row in texts} == {text_id(text) for text in said}
        assert manifest.verify() == []


def test_latents_decode_to_the_clip(path):
    with Manifest(path) as manifest:
        row = manifest.query(
            "SELECT latents.*, source_path, end_us FROM latents JOIN clip_files ON clip = id WHERE latents.frames = 9"
        )[0]
        encoder = manifest.query("SELECT * FROM encoders WHERE kind = 'vae'")[0]
    latent = torch.from_numpy(ShardReader(path.parent).read(row["shard"], row["key"])).float()
    restored = to_frames(load_codec(Path(encoder["path"])).decode(latent))
    windows = dict(
        read_windows(
            Path(row["source_path"]), start_us=0, end_us=row["end_us"], fps=8.0, frames=9, windows=2,
            bucket=(48, 80),
        )
    )  # fmt: skip
    error = np.square(to_unit(restored) - to_unit(windows[row["start_us"]])).mean()
    assert 10 * np.log10(4 / error) > 22


def test_again_does_nothing_and_other_settings_live_beside(path):
    with Manifest(path) as manifest:
        before = manifest.value("SELECT count(*) FROM latents")
        manifest.begin_run("test", {})
        clips, texts = encode_latents(
            manifest, "small", EncodeSettings(channels=8, windows=2), workers=1, progress=Quiet()
        )
        assert (clips.done, texts.done) == (0, 0)
        encode_latents(manifest, "small", EncodeSettings(channels=8, windows=1), workers=1, progress=Quiet())
        assert manifest.value("SELECT count(*) FROM latents") > before
        assert manifest.value("SELECT count(*) FROM encoders WHERE kind = 'vae'") == 2


def test_a_clip_that_vanished_is_a_failure_and_the_rest_goes_on(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=3)
    (tmp_path / "001.png").unlink()
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        clips, _ = encode_latents(manifest, "small", EncodeSettings(channels=8, fps=12), workers=1, progress=Quiet())
        assert (clips.done, clips.failed) == (3, 1)
        assert "gone" in manifest.query("SELECT reason FROM failures")[0]["reason"]


def test_a_fault_of_ours_is_not_taken_for_a_bad_clip(path, monkeypatch):
    """Before, any error passed for a bad clip while the linear codec was fitted, and a bad codec was the end."""

    def broken(*arguments):
        raise TypeError("a fault of ours")

    monkeypatch.setattr(codec, "clip_windows", broken)
    with Manifest(path) as manifest, pytest.raises(TypeError, match="of ours"):
        manifest.begin_run("test", {})
        encode_latents(manifest, "small", EncodeSettings(channels=4), workers=1, progress=Quiet())


def test_nothing_is_enlarged():
    with pytest.raises(GokuError, match="smaller than the bucket"):
        crop_to(np.zeros((40, 100, 3), np.uint8), 48, 80)
    assert crop_to(np.zeros((40, 100, 3), np.uint8), 48, 80, enlarge=True).shape == (48, 80, 3)
    assert crop_to(np.zeros((100, 100, 3), np.uint8), 48, 80).shape == (48, 80, 3)


def test_too_small_a_clip_is_unsuitable_unless_it_may_be_enlarged(path):
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        large = EncodeSettings(size="288x512", windows=1)
        with pytest.raises(GokuError):  # nothing to fit the linear codec on
            encode_latents(manifest, "small", large, workers=1, progress=Quiet())
        clips, _ = encode_latents(manifest, "small", replace(large, allow_upscale=True), workers=1, progress=Quiet())
        assert (clips.done, clips.failed) == (8, 0)
        vae = manifest.value("SELECT path FROM encoders ORDER BY run DESC LIMIT 1")
        clips, _ = encode_latents(manifest, "small", replace(large, vae=vae), workers=1, progress=Quiet())
        assert clips.reasons == {"unsuitable": 8}


@pytest.mark.parametrize("wrong", [{"dtype": "int8"}, {"frames": 8}, {"size": "48"}, {"size": "50x80"}, {"fps": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UsageError):
        EncodeSettings(**wrong)


def test_command_before_its_predecessor_says_what_to_type(tmp_path):
    with Manifest(tmp_path / "empty.duckdb", create=True):
        pass
    run = subprocess.run(["goku", "encode-latents", tmp_path / "empty.duckdb"], capture_output=True, text=True)
    assert run.returncode == 2
    assert "goku filter" in run.stderr
    assert run.stdout == ""


def test_a_full_disk_is_one_line_and_nothing_is_lost(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=3)
    words = f"ulimit -f 24; goku encode-latents {path} --windows 8 -j 1"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "free space" in done.stderr
    assert subprocess.run(["goku", "encode-latents", path, "--windows", "8", "-j", "1"]).returncode == 0
    with Manifest(path) as manifest:
        assert manifest.verify() == []
