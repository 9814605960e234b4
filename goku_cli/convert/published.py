"""A published Wan 2.1 text-to-video model becomes a checkpoint that `goku sample` and `goku encode-latents` take.

    checkpoint/ema.safetensors, model.safetensors   the transformer, one file under two names
               config.json                          its configuration, objective, codec and text encoder
               vae/                                 the codec, as diffusers saves it
               COMPLETE.json

The text encoder (umT5-XXL: 23 GB) stays where it is; config.json says where.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from goku_cli.convert import original
from goku_cli.convert.files import copy_vae, same_file
from goku_cli.errors import GokuError, UsageError
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import Goku
from goku_cli.model.objective.objective import Objective
from goku_cli.model.objective.shift import ShiftLaw
from goku_cli.model.text.umt5 import ROWS
from goku_cli.model.vae.codec import codec_fingerprint, load_codec
from goku_cli.model.weights import checkpoint
from goku_cli.model.weights import wan as wan_weights
from goku_cli.model.weights.published import read_json, read_weights
from goku_cli.publish import publish_folder

DRAWS = {"size": "480x832", "frames": 81, "fps": 16.0}
"""What the published models were made to draw; `goku sample` takes it when nothing is asked for."""
CODEC = "vae"
"""Folder of the codec, inside the checkpoint, so that both move together."""


def import_published(source: Path, out: Path, parts: Path | None) -> None:
    """Write the checkpoint of a pipeline's folder, or of a transformer's with the other parts from a pipeline.

    Raises:
        UsageError: not Wan 2.1 text-to-video, or a part is missing or pickled.
        GokuError: a file is damaged or missing.
    """
    _check_pipeline(source)
    transformer = source / "transformer" if (source / "transformer").is_dir() else source
    model, weights = read_transformer(transformer)
    places = {name: _part(name, source, parts) for name in ("vae", "text_encoder", "tokenizer", "scheduler")}
    with publish_folder(out) as temporary:
        checkpoint.write_weights(temporary, "ema.safetensors", weights)
        same_file(temporary / "ema.safetensors", temporary / "model.safetensors")
        check_vae(places["vae"])
        copy_vae(places["vae"], temporary / CODEC, read_json(places["vae"] / "config.json"))
        config = {
            "kind": "flow", "model": asdict(model), "objective": asdict(objective_of(places["scheduler"])),
            "data": {
                "codec": CODEC, "codec_sha256": codec_fingerprint(temporary / CODEC),
                "text": f"umt5:{places['text_encoder'].parent.absolute()}", "manifest": None, **DRAWS,
            },
        }  # fmt: skip
        (temporary / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        checkpoint.seal(temporary)


def _check_pipeline(source: Path) -> None:
    index = source / "model_index.json"
    config = read_json(index) if index.is_file() else {}
    two = (config.get("transformer_2") or [None])[0] is not None
    if two or config.get("boundary_ratio") is not None or config.get("expand_timesteps"):
        raise UsageError(f"{source} is Wan 2.2, which is two transformers or has another VAE; goku converts Wan 2.1")


def _part(name: str, source: Path, parts: Path | None) -> Path:
    for folder in (source, parts):
        if folder is not None and (folder / name).is_dir():
            return folder / name
    raise UsageError(f"{parts or source} has no {name}/; name a pipeline's folder that has, e.g. "
                     "--parts Wan2.1-T2V-1.3B-Diffusers")  # fmt: skip


def read_transformer(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return a published transformer as ours: configuration, and weights in their own precision.

    Raises:
        UsageError: another class, or a form of Wan's that ours is not.
        GokuError: a file is damaged or missing, or config.json and weights are not of one model.
    """
    config = read_json(folder / "config.json")
    kind = config.get("_class_name")
    try:
        if kind == original.CLASS:
            config = original.config_from_original(config)
        elif kind != wan_weights.CLASS:
            raise UsageError(f"{folder} holds {kind or 'no transformer'}; goku converts {wan_weights.CLASS} (Wan 2.1)")
        model = replace(wan_weights.config_from_wan(config), text_rows=ROWS)
    except KeyError as error:
        raise UsageError(f"{folder}/config.json lacks {error}; fetch it again") from error
    weights = read_weights(folder)
    if kind == original.CLASS:
        weights = original.weights_from_original(weights)
    weights = wan_weights.weights_from_wan(weights, model.layers)
    _check_shapes(model, weights, folder)
    return model, weights


def _check_shapes(model: ModelConfig, weights: dict[str, Tensor], folder: Path) -> None:
    with torch.device("meta"):
        expected = Goku(model).state_dict()
    for name, x in weights.items():
        if x.shape != expected[name].shape:
            raise GokuError(f"{name} is {list(x.shape)} in {folder}, and {list(expected[name].shape)} by its "
                            "config.json; fetch both again")  # fmt: skip


def check_vae(folder: Path) -> None:
    """Refuse a VAE that Wan 2.1's transformer was not trained on, by its class and its tensors.

    Raises:
        UsageError: another class, or the one of Wan 2.2's 5B model.
        GokuError: a file is damaged or missing, or config.json and weights are not of one model.
    """
    config = read_json(folder / "config.json")
    if config.get("_class_name") != "AutoencoderKLWan" or config.get("is_residual"):
        raise UsageError(f"{folder} holds no VAE of Wan 2.1 (AutoencoderKLWan of stride 4x8x8)")
    load_codec(folder)


def objective_of(scheduler: Path) -> Objective:
    """Return rectified flow with the constant shift that a pipeline samples with (3 for 480p, 5 for 720p)."""
    config = read_json(scheduler / "scheduler_config.json")
    base = config.get("flow_shift", config.get("shift"))  # UniPC's name for it, and the Euler scheduler's
    if base is None:
        raise UsageError(f"{scheduler}/scheduler_config.json has no flow_shift; add it (3.0 for 480p, 5.0 for 720p)")
    return Objective(shift=ShiftLaw(base=base, spatial=0.0, temporal=0.0))
