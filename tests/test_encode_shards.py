"""Shards on many machines: slices, merging them, shards that are lost or damaged."""

import shutil
import subprocess

import pytest
from encoded import make_encoded
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from goku_cli.cli.app import app
from goku_cli.encode.encode import encode_latents
from goku_cli.encode.lost import forget, lost_shards, remove_orphans
from goku_cli.encode.merge import merge
from goku_cli.encode.settings import EncodeSettings, Slice, size_of
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.prune import prune
from goku_cli.manifest.shards import check_shards
from goku_cli.manifest.store import Manifest
from goku_cli.stage import Quiet

SETTINGS = EncodeSettings(channels=8, windows=1, fps=12)


@given(st.sets(st.integers(0, 2**128 - 1).map(lambda n: f"{n:032x}")), st.integers(1, 20))
def test_slices_are_disjoint_and_complete(ids, count):
    for key in ids:
        assert sum(Slice(index, count).holds(key) for index in range(1, count + 1)) == 1


@pytest.mark.parametrize("wrong", ["0/4", "5/4", "3", "a/b", "1/0"])
def test_impossible_slices_are_refused(wrong):
    with pytest.raises(UsageError, match="I/N"):
        Slice.parse(wrong)


def test_buckets_are_sizes():
    assert [size_of(name, None) for name in ("288p", "480p", "720p")] == ["288x512", "480x864", "720x1280"]
    assert size_of(None, "96x96") == "96x96"
    with pytest.raises(UsageError, match="not both"):
        size_of("480p", "48x80")
    with pytest.raises(UsageError, match="known: 288p"):
        size_of("1080p", None)


@pytest.fixture
def copies(tmp_path):
    """A manifest and two copies in folders of their own, of which each encoded its half."""
    path = make_encoded(tmp_path / "a", videos=2, images=6)
    encode(path, Slice(1, 2), clear=True)  # fits the codec, which the copies bring along
    folders = [tmp_path / name for name in ("b", "c")]
    for index, folder in enumerate(folders, 1):
        shutil.copytree(path.parent, folder)
        encode(folder / path.name, Slice(index, 2))
    return path, *(folder / path.name for folder in folders)


def encode(path, part=None, clear=False):
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        outcomes = encode_latents(manifest, "small", SETTINGS, workers=1, progress=Quiet(), part=part)
        if clear:
            manifest.execute("DELETE FROM latents")
            manifest.execute("DELETE FROM text_states")
            manifest.execute("DELETE FROM receipts")
            manifest.execute("DELETE FROM shards")
        return outcomes


def test_two_machines_merge_into_one_and_again_changes_nothing(copies):
    path, b, c = copies
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        first = [merge(manifest, other) for other in (b, c)]
        assert sum(done.latents for done in first) == 8
        assert all(done.latents and done.text_states for done in first)
        assert not any(done.conflicts or done.strange for done in first)
        again = [merge(manifest, other) for other in (b, c)]
        assert not any(done.latents or done.text_states or done.shards for done in again)
        assert manifest.verify() == []
    clips, texts = encode(path)  # receipts came along
    assert (clips.done, texts.done) == (0, 0)


def test_the_same_slice_twice_is_taken_once_and_other_values_are_told(copies):
    path, b, _ = copies
    with Manifest(b) as manifest:
        twin = shutil.copytree(b.parent, b.parent.parent / "d") / b.name
    with Manifest(twin) as manifest:
        manifest.execute("UPDATE latents SET crc = crc + 1")
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        count = merge(manifest, b).latents
        done = merge(manifest, twin)
        assert (done.latents, done.conflicts) == (0, count)
        assert manifest.verify() == []


def test_a_damaged_shard_is_not_taken_in(copies):
    path, b, _ = copies
    for shard in b.parent.glob("small.latents/*.safetensors"):
        whole = shard.read_bytes()
        shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        with pytest.raises(GokuError, match="is not what was written"):
            merge(manifest, b)
        assert manifest.value("SELECT count(*) FROM latents") == 0
    told = subprocess.run(["goku", "encode-latents", path, "--merge", path], capture_output=True, text=True)
    assert told.returncode == 2
    assert "the manifest itself" in told.stderr


def test_what_a_lost_shard_held_is_encoded_again(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=3)
    with Manifest(path) as manifest:
        before = manifest.query("SELECT key, sums FROM latents ORDER BY key")
        shard = manifest.value("SELECT any_value(shard) FROM latents")
        (tmp_path / shard).write_bytes((tmp_path / shard).read_bytes()[:-10])
        assert any("bytes, not" in line for line in manifest.verify())
        with pytest.raises(GokuError, match="bytes, not"):
            check_shards(manifest, [shard])
        assert forget(manifest, lost_shards(manifest)) == 4
        manifest.begin_run("test", {})
        settings = EncodeSettings(channels=8, windows=2)
        clips, _ = encode_latents(manifest, "small", settings, workers=1, progress=Quiet())
        assert clips.done == 4
        assert manifest.query("SELECT key, sums FROM latents ORDER BY key") == before
        assert manifest.verify() == []


def goku(path, *words):
    return CliRunner().invoke(
        app, ["encode-latents", str(path), "--channels", "8", "--windows", "2", "-j", "1", *words]
    )


def test_a_folder_without_any_of_its_shards_is_a_disk_that_is_not_mounted(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=3)
    folder = tmp_path / "small.latents"
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()  # the mount point
    refused = goku(path)
    assert isinstance(refused.exception, GokuError)
    assert f"all 2 shards in {folder} are gone; mount" in str(refused.exception)
    assert "--forget-lost" in str(refused.exception)
    with Manifest(path, read_only=True) as manifest:
        before = manifest.query("SELECT key, crc FROM latents ORDER BY key")
        assert len(before) == 5
    assert goku(path, "--forget-lost").exit_code == 0
    with Manifest(path, read_only=True) as manifest:
        assert manifest.query("SELECT key, crc FROM latents ORDER BY key") == before
        assert manifest.verify() == []


def test_files_that_no_row_names_go_and_others_stay(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=3)
    folder = tmp_path / "small.latents"
    kept = {file.name for file in folder.iterdir()} | {"mine.safetensors"}
    for name in ("0123456789ab.safetensors", ".0123456789ab.tmp-01234567.safetensors", "mine.safetensors"):
        (folder / name).write_bytes(bytes(500_000))
    with Manifest(tmp_path / ".small.duckdb.import-01234567", create=True) as killed:
        killed.insert("shards", [{"path": "small.latents/0123456789ab.safetensors"}])
    assert "1.0 MB of shards" in goku(path).stderr
    assert {file.name for file in folder.iterdir()} == kept
    assert not list(tmp_path.glob(".*"))


def test_the_shards_of_clips_that_are_gone_go_too_unless_another_manifest_names_them(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=3)

    def files():
        return {str(file.relative_to(tmp_path)) for file in tmp_path.glob("small.latents/*.safetensors")}

    with Manifest(path) as manifest:
        of = {name: manifest.value(f"SELECT any_value(shard) FROM {name}") for name in ("latents", "text_states")}
        manifest.execute("DELETE FROM source_paths WHERE source = (SELECT min(id) FROM sources)")
        assert prune(manifest) == 0  # other clips' latents lie there too
        assert manifest.value("SELECT count(DISTINCT clip) FROM latents") == 3
    assert files() == set(of.values())
    shutil.copyfile(path, tmp_path / "copy.manifest")
    shutil.copyfile(path, tmp_path / "torn.manifest")
    (tmp_path / "torn.manifest").write_bytes(path.read_bytes()[:5000])
    with Manifest(path) as manifest:
        manifest.execute("DELETE FROM source_paths")
        assert prune(manifest) == 0
        assert {row["path"] for row in manifest.query("SELECT path FROM shards")} == {of["text_states"]}
        assert files() == set(of.values())
        for name in ("copy.manifest", "torn.manifest"):
            assert remove_orphans(manifest) == 0
            (tmp_path / name).unlink()
        assert remove_orphans(manifest) > 1000
        assert manifest.verify() == []
    assert files() == {of["text_states"]}


def test_a_shard_of_clips_that_are_gone_goes_with_them(tmp_path):
    path = make_encoded(tmp_path, videos=1, images=1)
    with Manifest(path) as manifest:
        file = tmp_path / manifest.value("SELECT any_value(shard) FROM latents")
        size = file.stat().st_size
        manifest.execute("DELETE FROM source_paths")
        assert prune(manifest) == size
    assert not file.exists()
