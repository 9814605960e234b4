"""What lies in a folder of a published model: one JSON that describes it, and weights as safetensors in one file or
in shards. Pickles are not opened: reading one runs what its author wrote.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from goku_cli.errors import GokuError, UsageError

STEM = "diffusion_pytorch_model"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        UsageError: it is missing, or is no JSON object.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds no JSON object; fetch it again")
    return found


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a folder, mapped from its files rather than read into memory.

    Raises:
        UsageError: there are none, or only pickled ones.
        GokuError: a shard is missing, or a file is damaged.
    """
    weights: dict[str, Tensor] = {}
    for path in weight_files(folder):
        if not path.is_file():
            raise GokuError(f"{path} is missing, which the index beside it names; fetch it again")
        try:
            weights |= load_file(path)
        except (OSError, SafetensorError) as error:
            raise GokuError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    return weights


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a folder's weights, in the order of their names.

    Raises:
        UsageError: there are none, or only pickled ones.
    """
    single, index = folder / f"{STEM}.safetensors", folder / f"{STEM}.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        return [folder / name for name in sorted(set(read_json(index).get("weight_map", {}).values()))]
    for path in sorted(folder.iterdir()):
        if path.suffix in PICKLES:
            raise UsageError(f"{path} is a pickle, which runs code when it is read; fetch or save these weights as "
                             f"{single.name} (in diffusers: model.save_pretrained(FOLDER))")  # fmt: skip
    raise UsageError(f"no {single.name} in {folder}; fetch it again")
