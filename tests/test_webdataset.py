"""Latents as WebDataset tars: written, read by the library that the form is named after, and taken in again."""

import io
import json
import shutil
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import webdataset
from encoded import make_encoded, tiny_wan
from typer.testing import CliRunner

from goku_cli.cli.app import app
from goku_cli.encode import export as exporting
from goku_cli.encode.encode import encode_latents
from goku_cli.encode.export import export
from goku_cli.encode.importing import import_tars
from goku_cli.encode.settings import EncodeSettings
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.shards import ShardReader
from goku_cli.manifest.store import Manifest
from goku_cli.stage import Quiet
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import Recipe, TrainConfig

RECIPE = Recipe("flow", TrainConfig(steps=1, tokens_per_step=100, lr=1e-3), size="nano")
TABLES = ("latents", "text_states", "receipts", "shards")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A manifest encoded by a linear VAE and by a small Wan VAE, mirrored windows in the latter."""
    path = make_encoded(tmp_path_factory.mktemp("webdataset"), videos=2, images=4)
    with Manifest(path) as manifest:
        manifest.begin_run("test", {})
        settings = EncodeSettings(vae=str(tiny_wan(path.parent / "wan")), windows=2, flip=True)
        encode_latents(manifest, "small", settings, workers=1, progress=Quiet())
    return path


@pytest.fixture(scope="module")
def folder(path):
    """Its latents as tars, each of few clips."""
    with pytest.MonkeyPatch.context() as patch, Manifest(path) as manifest:
        patch.setattr(exporting, "TAR_BYTES", 100_000)
        export(manifest, "small", path.parent / "tars", Quiet())
    return path.parent / "tars"


@pytest.fixture
def bare(path, tmp_path):
    """A copy of the manifest that is not encoded."""
    with Manifest(path):
        pass
    copy = shutil.copyfile(path, tmp_path / path.name)
    with Manifest(copy) as manifest:
        for table in (*TABLES, "encoders"):
            manifest.execute(f"DELETE FROM {table}")
    return copy


def rows(manifest):
    """The rows of all windows and texts, with their tensors' bytes."""
    reader = ShardReader(manifest.path.parent)
    found = manifest.query("SELECT * EXCLUDE (run) FROM latents ORDER BY encoder, key")
    found += manifest.query("SELECT * EXCLUDE (run) FROM text_states ORDER BY encoder, key")
    for row in found:
        keys = [row["key"], *([f"{row['key']}.logvar"] if row.get("logvar") else [])]
        shard = row.pop("shard")
        row["bytes"] = [(x.dtype.name, x.tobytes()) for x in (reader.read(shard, key) for key in keys)]
    return found


def test_the_library_reads_what_the_rows_say(path, folder):
    index = json.loads((folder / "index.json").read_text())
    assert index["windows"] == 2 * 2 + 4 + 2 * (2 * 2 + 4)
    assert len(index["tars"]) > 2
    found = {}
    for name, about in index["tars"].items():
        samples = list(webdataset.WebDataset(str(folder / name), shardshuffle=False).decode())
        assert len(samples) == about["windows"]
        found |= {(sample["json"]["encoder"]["id"], sample["__key__"]): sample for sample in samples}
    with Manifest(path, read_only=True) as manifest:
        texts = {row["clip"]: row["text"] for row in manifest.query("SELECT * FROM captions WHERE kind = 'merged'")}
        for row in manifest.query("SELECT * FROM latents"):
            sample = found.pop((row["encoder"], row["key"]))
            assert sample["json"]["clip"] == row["clip"]
            assert sample["txt"] == texts[row["clip"]]
            stored = ShardReader(path.parent).read(row["shard"], row["key"])
            np.testing.assert_array_equal(sample["latent.npy"], stored)
            assert ("logvar.npy" in sample) == row["logvar"]
            crc = zlib.crc32(sample["latent.npy"].tobytes())
            assert row["crc"] == (zlib.crc32(sample["logvar.npy"].tobytes(), crc) if row["logvar"] else crc)
            said = sample["json"]["captions"]
            assert {"", texts[row["clip"]]} <= {caption["text"] for caption in said}
            for caption in said:
                assert len(sample[caption["states"]]) == caption["tokens"]
        wanted = manifest.query("SELECT encoder, mean FROM latent_statistics ORDER BY encoder, channel")
    assert not found
    means = [value for encoder in index["encoders"] for value in encoder.get("statistics", {}).get("mean", [])]
    assert means == pytest.approx([row["mean"] for row in wanted])


def test_again_is_nothing_equal_bytes_and_nothing_else_is_overwritten(path, folder, monkeypatch):
    monkeypatch.setattr(exporting, "TAR_BYTES", 100_000)
    with Manifest(path) as manifest:
        before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
        assert "already" in export(manifest, "small", folder, Quiet())
        assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
        export(manifest, "small", path.parent / "twin", Quiet())
        for file in [file for file in folder.rglob("*") if file.is_file()]:
            assert (path.parent / "twin" / file.relative_to(folder)).read_bytes() == file.read_bytes()
        (tar, *_) = (path.parent / "twin").glob("*.tar")
        for torn in (lambda: tar.unlink(), lambda: (tar.parent / "index.json").write_text("[")):
            torn()
            with pytest.raises(UsageError, match="holds something else"):
                export(manifest, "small", tar.parent, Quiet())
        weight = "UPDATE selections SET weight = weight * {} WHERE clip = (SELECT min(clip) FROM selections)"
        manifest.execute(weight.format(2))
        with pytest.raises(UsageError, match="holds something else"):
            export(manifest, "small", folder, Quiet())
        manifest.execute(weight.format(0.5))
        with pytest.raises(UsageError, match="has no latents"):
            export(manifest, "other", path.parent / "other", Quiet())


class Interrupting(Quiet):
    def advance(self, count=1):
        raise KeyboardInterrupt


def test_an_interrupted_export_leaves_nothing(path, tmp_path):
    with Manifest(path) as manifest:
        with pytest.raises(KeyboardInterrupt):
            export(manifest, "small", tmp_path / "tars", Interrupting())
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "tars").mkdir()  # empty is as good as absent
        (tmp_path / ".tars.tmp-01234567" / "linear").mkdir(parents=True)  # killed without a chance to clean up
        export(manifest, "small", tmp_path / "tars", Quiet())
    assert [entry.name for entry in tmp_path.iterdir()] == ["tars"]
    assert (tmp_path / "tars" / "index.json").is_file()


def test_a_damaged_tensor_is_not_exported(path, tmp_path):
    copy = shutil.copytree(path.parent, tmp_path / "copy")
    with Manifest(copy / path.name) as manifest:
        manifest.execute("UPDATE text_states SET crc = crc + 1")
        with pytest.raises(GokuError, match="not what was written"):
            export(manifest, "small", tmp_path / "tars", Quiet())
        manifest.execute("UPDATE text_states SET crc = crc - 1")
        manifest.execute("UPDATE encoders SET path = path || '.gone'")
        with pytest.raises(GokuError, match=r"\.gone.* is gone; restore it"):
            export(manifest, "small", tmp_path / "tars", Quiet())
    assert not (tmp_path / "tars").exists()


def test_what_comes_in_is_bit_for_bit_what_went_out_and_is_trained_on(path, folder, bare):
    with Manifest(path) as manifest:
        wanted = rows(manifest)
    with Manifest(bare) as manifest:
        manifest.begin_run("test", {})
        done = import_tars(manifest, [folder], Quiet())
        assert (done.latents, done.conflicts, done.strange) == (24, 0, 0)
        assert rows(manifest) == wanted
        again = import_tars(manifest, [folder], Quiet())
        assert (again.latents, again.text_states, again.shards) == (0, 0, 0)
        assert manifest.verify() == []
        named = {row["path"] for row in manifest.query("SELECT path FROM shards")}
        assert {str(file.relative_to(bare.parent)) for file in bare.parent.rglob("*.safetensors")} - named == {
            str(file.relative_to(bare.parent)) for file in bare.parent.glob("small.latents/linear-*/codec.safetensors")
        }
        assert [file.name for file in bare.parent.glob(".*")] == []
        settings = EncodeSettings(channels=8, windows=2)  # receipts came along, and the linear codec
        clips, texts = encode_latents(manifest, "small", settings, workers=1, progress=Quiet())
        assert (clips.done, texts.done) == (0, 0)
        assert prepare(manifest, "small", RECIPE, "r", bare.parent / "runs").clips == 6
        manifest.execute("UPDATE encoders SET path = path || '.gone'")
        with pytest.raises(UsageError, match=r"\.gone holds no VAE"):
            prepare(manifest, "small", RECIPE, "r", bare.parent / "runs")
        import_tars(manifest, [folder], Quiet())  # brings the linear one again
        assert (Path(manifest.value("SELECT path FROM encoders WHERE name = 'linear'")) / "config.json").is_file()


def test_clips_that_are_not_known_stay_out(folder, bare):
    with Manifest(bare) as manifest:
        manifest.begin_run("test", {})
        manifest.execute("DELETE FROM clips WHERE id <> (SELECT max(id) FROM clips)")
        tar = next(tar for tar in sorted(folder.glob("*.tar")))
        done = import_tars(manifest, [*folder.glob("*.tar"), tar], Quiet())  # one of them named twice
        assert done.strange == 5
        assert manifest.value("SELECT count(DISTINCT clip) FROM latents") == 1
        assert manifest.value("SELECT count(*) FROM shards") == 3
        assert len(list(bare.parent.glob("small.latents/*.safetensors"))) == 3


def repacked(folder, out, change):
    """Write the first tar again with `change` made to each (name, bytes); None leaves the member out."""
    with tarfile.open(sorted(folder.glob("*.tar"))[0]) as source, tarfile.open(out, "w") as target:
        for member in source:
            changed = change(member.name, source.extractfile(member).read())
            if changed is not None:
                member.name, data = changed
                member.size = len(data)
                target.addfile(member, io.BytesIO(data))
    return out


def npy(x):
    data = io.BytesIO()
    np.save(data, x, allow_pickle=True)
    return data.getvalue()


def edited(**changes):
    return lambda data: json.dumps(json.loads(data) | changes).encode()


WRONG = {
    r"has a \.latent\.npy that is no array": ("latent.npy", lambda data: b"PK" + data[2:]),
    r"has a \.latent\.npy that is no array \(Object arrays": ("latent.npy", lambda data: npy(np.array([{}, 1]))),
    r"of float64, not of": ("latent.npy", lambda data: npy(np.zeros(3))),
    r"holds NaN": ("latent.npy", lambda data: npy(np.full((1, 2, 2, 2), np.nan, np.float16))),
    r"has a latent of \[1, 2, 2, 2\]": ("latent.npy", lambda data: npy(np.zeros((1, 2, 2, 2), np.float16))),
    r"its checksum is another": ("latent.npy", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    r"has no .*\.json": ("json", lambda data: None),
    r"has a \.json that is none": ("json", lambda data: data[:-9]),
    r"has a \.json that is no table": ("json", lambda data: b"[]"),
    r"unknown key": ("json", edited(colour="red")),
    r"start_us must be int": ("json", edited(start_us="0")),
    r"is the window": ("json", edited(clip="f" * 32)),
    r"other settings than its id": (
        "json", lambda data: edited(encoder=json.loads(data)["encoder"] | {"settings": {"fps": 1}})(data)
    ),
    r"names a codec": (
        "json", lambda data: edited(encoder=json.loads(data)["encoder"] | {"codec": "../.."})(data)
    ),
    r"has no .*text-0": ("text-0.npy", lambda data: None),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_a_bad_sample_is_refused_and_nothing_comes_in(path, folder, bare, message):
    which, change = WRONG[message]

    def changed(name, data):
        data = change(data) if name.endswith(f".{which}") else data
        return None if data is None else (name, data)

    refused(bare, repacked(folder, bare.parent / "wrong.tar", changed), message)


def refused(bare, tar, message):
    with Manifest(bare) as manifest:
        manifest.begin_run("test", {})
        with pytest.raises(GokuError, match=message) as caught:
            import_tars(manifest, [tar], Quiet())
        assert "\n" not in str(caught.value)
        assert not any(manifest.value(f"SELECT count(*) FROM {table}") for table in (*TABLES, "encoders"))
    assert not list(bare.parent.glob("small.latents/*")) + list(bare.parent.glob(".*"))


def test_a_bad_tar_is_refused(folder, bare):
    good = sorted(folder.glob("*.tar"))[0]
    out = bare.parent / "wrong.tar"
    refused(bare, repacked(folder, out, lambda name, data: (f"../{name}", data)), "no plain file KEY.EXTENSION")
    data = good.read_bytes()
    for cut in (len(data) // 2, len(data) - 1024 * 10, 0):
        out.write_bytes(data[:cut])
        refused(bare, out, "is cut")
    out.write_bytes(data[: len(data) // 2] + bytes(1024))
    refused(bare, out, "is cut|has no|is another")
    with tarfile.open(out, "w") as target:
        link = tarfile.TarInfo("a.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        target.addfile(link)
    refused(bare, out, "no plain file")
    refused(bare, bare.parent / "absent", "does not exist")
    (bare.parent / "empty").mkdir()
    refused(bare, bare.parent / "empty", "holds no tars")
    copy = shutil.copytree(folder, bare.parent / "copy")
    (copy / good.name).write_bytes(data[:-1])
    refused(bare, copy / good.name, "not what was written")
    (copy / good.name).unlink()
    refused(bare, copy, "is gone")
    (copy / "index.json").write_text("{")
    refused(bare, copy, "index.json is damaged")
    twin = shutil.copyfile(good, bare.parent / "twin.tar")
    with Manifest(bare) as manifest:
        with pytest.raises(GokuError, match="twice"):
            import_tars(manifest, [good, twin], Quiet())


def test_from_the_command_line(path, tmp_path, bare):
    done = goku("latents", "export", f"{path}#small", "--to", tmp_path / "tars")
    assert (done.exit_code, done.stdout) == (0, f"{path}#small\n")
    done = goku("latents", "import", bare, "--from", tmp_path / "tars")
    assert (done.exit_code, done.stdout) == (0, f"{bare}\n")
    with Manifest(bare, read_only=True) as manifest:
        assert manifest.value("SELECT count(*) FROM latents") == 24
    for shard in bare.parent.glob("small.latents/*.safetensors"):
        shard.unlink()
    assert goku("latents", "verify", bare).exit_code == 1
    assert "24 latents" in goku("latents", "import", bare, "--from", tmp_path / "tars", "--forget-lost").stderr
    assert "is sound" in goku("latents", "verify", bare, "--windows", "2").stderr
    copy = shutil.copytree(bare.parent, tmp_path / "copy") / bare.name
    assert "0 latents" in goku("latents", "merge", bare, "--from", copy).stderr


def test_old_spellings_work_and_name_the_new_ones(path, tmp_path, bare):
    done = goku("encode-latents", f"{path}#small", "--export", tmp_path / "tars")
    assert done.exit_code == 0
    assert "goku latents export MANIFEST --to FOLDER" in done.stderr
    done = goku("encode-latents", bare, "--import", tmp_path / "tars")
    assert done.exit_code == 0
    assert "goku latents import MANIFEST --from FOLDER" in done.stderr
    both = goku("encode-latents", bare, "--import", tmp_path / "tars", "--merge", path)
    assert isinstance(both.exception, UsageError)


def goku(*words):
    return CliRunner().invoke(app, [*map(str, words)])
