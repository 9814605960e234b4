"""Checkpoints: folders that have their final name once they are complete.

    run/step-000400/model.safetensors      the raw weights
                    ema.safetensors        their moving average, what is sampled by default
                    config.json            model, codec, text encoder, flow, and what the run has seen
                    optimizer-*.safetensors, state.json    what a resumed run needs beside them
                    COMPLETE.json          size and SHA-256 of every file, written last

A folder is written under another name, verified by its own COMPLETE.json and renamed. On load the sums of the
weights are checked: one flipped byte in a safetensors file would otherwise load in silence.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from goku_cli.errors import GokuError, UsageError
from goku_cli.model.vae.codec import Codec, codec_fingerprint, load_codec
from goku_cli.publish import sha256

COMPLETE = "COMPLETE.json"
DIGEST = re.compile("-[0-9a-f]{8}")
"""What follows the recipe's name in that of a run."""


def step_folder(run: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return run / f"step-{step:06d}"


def write_weights(folder: Path, name: str, weights: dict[str, torch.Tensor]) -> None:
    """Write one set of weights as safetensors into a folder that is not yet published."""
    save_file({key: value.detach().cpu().contiguous() for key, value in weights.items()}, folder / name)


Sums = dict[str, dict[str, Any]]
"""Bytes and SHA-256 of files by their names."""


def sums_of(folder: Path, path: Path) -> Sums:
    """Return the entry of one file."""
    return {str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256(path)}}


def seal(folder: Path, known: Sums | None = None, done: Callable[[], None] = lambda: None) -> None:
    """Write COMPLETE.json and flush everything to disk; the folder still needs its name.

    Files in `known` are not read again; `done` is called after each that is.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums: Sums = {}
    for path in files:
        name = str(path.relative_to(folder))
        sums |= {name: known[name]} if known and name in known else sums_of(folder, path)
        done()
    complete = folder / COMPLETE
    complete.write_text(json.dumps(sums, indent=1))
    for path in [*files, complete, folder]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def finish(temporary: Path, final: Path, known: Sums | None = None, done: Callable[[], None] = lambda: None) -> None:
    """Seal a folder, as `seal` does, and give it its name."""
    seal(temporary, known, done)
    os.replace(temporary, final)


def prune(run: Path, keep: int, keep_every: int = 0) -> None:
    """Delete all but the newest `keep` checkpoints, and those of steps that `keep_every` divides."""
    for old in checkpoints(run)[:-keep]:
        if not keep_every or int(old.name.removeprefix("step-")) % keep_every:
            shutil.rmtree(old)


def checkpoints(run: Path) -> list[Path]:
    """Return a run's finished checkpoints, oldest first."""
    return sorted(path.parent for path in run.glob(f"step-*/{COMPLETE}"))


def resolve(path: Path) -> Path:
    """Return the checkpoint that a path means: itself, or the newest of a run's folder.

    Runs are named by their recipe and a digest, so `runs/2-joint-288p` also means the run of that recipe, of several
    the one that saved last.

    Raises:
        UsageError: there is none.
    """
    if (path / COMPLETE).exists():
        return path
    if found := checkpoints(path):
        return found[-1]
    runs = [run for run in path.parent.glob(f"{path.name}-*") if DIGEST.fullmatch(run.name.removeprefix(path.name))]
    if not path.exists() and (saved := [checkpoints(run)[-1] for run in runs if checkpoints(run)]):
        return max(saved, key=lambda folder: (folder / COMPLETE).stat().st_mtime_ns)
    raise UsageError(f"no checkpoint at {path}; make one with: goku train recipes/shapes.toml MANIFEST")


def verified(checkpoint: Path, name: str) -> Path:
    """Return a file of a checkpoint after comparing its SHA-256 with what was written.

    Raises:
        GokuError: it is damaged or missing.
    """
    path = checkpoint / name
    wanted = json.loads((checkpoint / COMPLETE).read_text()).get(name)
    if wanted is None or not path.exists() or sha256(path) != wanted["sha256"]:
        raise GokuError(f"{path} is damaged; remove {checkpoint} to go on from the checkpoint before it")
    return path


def verify(checkpoint: Path, rank: int = 0, world: int = 1) -> None:
    """Compare every file of a checkpoint with what was written, and refuse files that were added.

    Of `world` ranks that share the work, each reads its part of the files.

    Raises:
        GokuError: a file is damaged, missing or new.
    """
    wanted = set(json.loads((checkpoint / COMPLETE).read_text()))
    found = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    for name in found ^ wanted ^ {COMPLETE}:
        raise GokuError(f"{checkpoint / name} was added or removed since it was saved; remove {checkpoint} to go on")
    for name in sorted(wanted)[rank::world]:
        verified(checkpoint, name)


def weights_file(checkpoint: Path, which: str) -> str:
    """Return the file of a checkpoint's weights: `raw`, `ema`, or an average of another decay, as `ema-0.99`.

    Raises:
        UsageError: the checkpoint has no such weights.
    """
    files = {"raw": "model.safetensors"}
    names = json.loads((checkpoint / COMPLETE).read_text())
    files |= {name.removesuffix(".safetensors"): name for name in sorted(names) if name.startswith("ema")}
    if which not in files:
        raise UsageError(f"{checkpoint} has no weights {which}; --weights takes one of: {', '.join(files)}")
    return files[which]


def read_config(checkpoint: Path) -> dict[str, Any]:
    """Return a checkpoint's config.json."""
    return json.loads(verified(checkpoint, "config.json").read_text())  # type: ignore[no-any-return]


def read_weights(checkpoint: Path, name: str) -> dict[str, torch.Tensor]:
    """Return one set of a checkpoint's weights."""
    return load_file(verified(checkpoint, name))


def read_codec(checkpoint: Path, config: Mapping[str, Any], tile: int = 0) -> Codec:
    """Return the codec of a transformer's checkpoint, of which `config` is the config.json; see `load_codec`.

    Raises:
        UsageError: it is gone, or not the one that the checkpoint was trained with, or its latents have other channels
            than the model, or `tile` is impossible.
        GokuError: its weights are damaged.
    """
    folder = checkpoint / config["data"]["codec"]  # within a converted checkpoint, elsewhere for a trained one
    codec = load_codec(folder, tile)
    if codec_fingerprint(folder) != config["data"]["codec_sha256"]:
        raise UsageError(f"{folder} is not the VAE that {checkpoint} was trained with; put that one back there")
    if codec.channels != (wanted := config["model"]["latent_channels"]):
        raise UsageError(
            f"latents of {folder} have {codec.channels} channels, those of {checkpoint} {wanted}; train again"
        )
    return codec
