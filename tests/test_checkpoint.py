"""Checkpoints: whole or absent, and damage is named."""

import os

import pytest
import torch

from goku_cli.errors import GokuError, UsageError
from goku_cli.model.weights import checkpoint


def save(run, step):
    temporary = run / f".step-{step:06d}"
    temporary.mkdir(parents=True)
    checkpoint.write_weights(temporary, "ema.safetensors", {"w": torch.full((4,), float(step))})
    (temporary / "config.json").write_text('{"kind": "flow"}')
    checkpoint.finish(temporary, checkpoint.step_folder(run, step))


def test_newest_whole_checkpoint_is_found(tmp_path):
    for step in (5, 10):
        save(tmp_path, step)
    (tmp_path / "step-000020").mkdir()  # without COMPLETE.json it does not count
    found = checkpoint.resolve(tmp_path)
    assert found.name == "step-000010"
    assert checkpoint.resolve(found) == found
    assert checkpoint.read_weights(found, "ema.safetensors")["w"].tolist() == [10.0] * 4


def test_a_recipes_name_means_the_run_that_saved_last(tmp_path):
    for run, when in (("2-joint-0a1b2c3d", 20), ("2-joint-ffffffff", 10), ("2-joint-more-00000000", 30)):
        save(tmp_path / run, 5)
        os.utime(tmp_path / run / "step-000005" / "COMPLETE.json", (when, when))
    (tmp_path / "2-joint-99999999").mkdir()  # it has saved nothing yet
    assert checkpoint.resolve(tmp_path / "2-joint").parent.name == "2-joint-0a1b2c3d"
    (tmp_path / "2-joint").mkdir()
    with pytest.raises(UsageError, match="no checkpoint at"):
        checkpoint.resolve(tmp_path / "2-joint")


def test_weights_are_named(tmp_path):
    save(tmp_path, 1)
    folder = tmp_path / "step-000001"
    assert checkpoint.weights_file(folder, "ema") == "ema.safetensors"
    with pytest.raises(UsageError, match=r"no weights ema-0.5; --weights takes one of: raw, ema$"):
        checkpoint.weights_file(folder, "ema-0.5")


def test_prune_keeps_the_newest_and_what_is_being_written(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    (tmp_path / ".step-000004").mkdir()
    checkpoint.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".step-000004", "step-000002", "step-000003"]


@pytest.mark.parametrize("name", ["ema.safetensors", "config.json"])
def test_one_flipped_byte_is_refused(tmp_path, name):
    save(tmp_path, 1)
    path = tmp_path / "step-000001" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(GokuError, match="damaged"):
        if name == "config.json":
            checkpoint.read_config(path.parent)
        else:
            checkpoint.read_weights(path.parent, name)


def test_no_checkpoint_says_what_to_type(tmp_path):
    with pytest.raises(UsageError, match="goku train"):
        checkpoint.resolve(tmp_path)


def test_verify_names_what_was_added_removed_or_changed(tmp_path):
    save(tmp_path, 1)
    folder = tmp_path / "step-000001"
    checkpoint.verify(folder)
    (folder / "evil.pt").write_bytes(b"x")
    with pytest.raises(GokuError, match=r"evil\.pt was added"):
        checkpoint.verify(folder)
    (folder / "evil.pt").unlink()
    (folder / "ema.safetensors").unlink()
    with pytest.raises(GokuError, match="ema.safetensors"):
        checkpoint.verify(folder)
