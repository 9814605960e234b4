"""Checkpoint with an EMA of another length, from the snapshots in a run's checkpoints (model/weights/posthoc.py)."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from goku_cli.errors import UsageError
from goku_cli.model.weights import checkpoint
from goku_cli.model.weights.posthoc import Snapshot, coefficients, exponent_of

PREFIX = "length-"
"""Of the files of snapshots: length-0.05.safetensors."""


def average_run(run: Path, out: Path, length: float) -> int:
    """Write the run's newest checkpoint to `out` with the average of this relative length as its ema.safetensors.

    Returns how many snapshots it was made of.

    Raises:
        UsageError: the length is impossible, or the run has too few snapshots.
        GokuError: one of them is damaged.
    """
    exponent = exponent_of(length)
    found: list[tuple[Snapshot, Path]] = []
    for folder in checkpoint.checkpoints(run):
        step = checkpoint.read_config(folder)["step"]
        for path in sorted(folder.glob(f"{PREFIX}*.safetensors")):
            found.append(((step, exponent_of(float(path.stem.removeprefix(PREFIX)))), path))
    if len(found) < 2:
        raise UsageError(f"{run} has {len(found)} snapshots of averages; train with ema_lengths = [0.05, 0.1] and "
                         "keep_every in the recipe")  # fmt: skip
    newest = found[-1][1].parent
    step = found[-1][0][0]
    parts = coefficients([snapshot for snapshot, _ in found], (step, exponent))
    total: dict[str, torch.Tensor] = {}
    for part, (_, path) in zip(parts, found, strict=True):
        for name, x in checkpoint.read_weights(path.parent, path.name).items():
            total[name] = total.get(name, torch.zeros(())).double() + float(part) * x.double()
    _write(newest, out, {name: x.float() for name, x in total.items()}, length)
    return len(found)


def _write(newest: Path, out: Path, average: dict[str, torch.Tensor], length: float) -> None:
    temporary = out.with_name(f".{out.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    config: dict[str, Any] = checkpoint.read_config(newest)
    config["average"] = {"run": str(newest.parent.absolute()), "length": length}
    (temporary / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    shutil.copyfile(checkpoint.verified(newest, "model.safetensors"), temporary / "model.safetensors")
    checkpoint.write_weights(temporary, "ema.safetensors", average)
    checkpoint.finish(temporary, out)
