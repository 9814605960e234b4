"""A checkpoint of Wan's form becomes folders that diffusers loads: transformer/, vae/ when it has Wan's VAE, and with
Wan's text encoder a whole pipeline.

WanTransformer3DModel.from_pretrained(FOLDER, subfolder="transformer")
WanPipeline.from_pretrained(FOLDER)
"""

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from goku_cli.convert.files import copy_vae, same_file
from goku_cli.errors import UsageError
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.objective.objective import Objective
from goku_cli.model.vae.codec import Statistics, codec_fingerprint, latent_statistics, load_codec
from goku_cli.model.weights import checkpoint
from goku_cli.model.weights import wan as wan_weights
from goku_cli.model.weights.published import STEM, read_json
from goku_cli.publish import publish_folder
from goku_cli.recipe import build
from goku_cli.sizes import parse_size

VAE = "AutoencoderKLWan"
"""The class that diffusers' pipelines of this transformer decode with."""
UMT5 = "umt5:"
SCHEDULER = "UniPCMultistepScheduler"
RUN = ("kind", "step", "figures", "data")
"""Keys that a run adds to the config.json of a VAE that it trained."""


def export_checkpoint(source: Path, out: Path, weights: str) -> str:
    """Write what diffusers has classes for of a checkpoint; return what that is.

    Raises:
        UsageError: the checkpoint holds a VAE, or a model that diffusers' class cannot be, or its codec is gone.
        GokuError: a file is damaged.
    """
    folder = checkpoint.resolve(source)
    config = checkpoint.read_config(folder)
    if config.get("kind") != "flow":
        raise UsageError(f"{folder} holds a VAE; convert a checkpoint of the transformer that was trained on it")
    objective = build(Objective, config.get("objective", {}), where=f"{folder}/config.json, objective")
    if objective.kind != "flow":
        raise UsageError(f"{folder} predicts {objective.kind}; diffusers samples Wan's class as a flow")
    if objective.predicts != "velocity":
        raise UsageError(f"{folder} predicts {objective.predicts}; diffusers takes what Wan's class gives for the "
                         "velocity, so sample it with: goku sample")  # fmt: skip
    model = build(ModelConfig, config["model"], where=f"{folder}/config.json")
    described = wan_weights.config_to_wan(model)
    codec_folder = folder / config["data"]["codec"]
    codec = load_codec(codec_folder)
    if codec_fingerprint(codec_folder) != config["data"]["codec_sha256"]:
        raise UsageError(f"{codec_folder} is not the VAE that {folder} was trained with")
    described_vae = read_json(codec_folder / "config.json")
    own = checkpoint.read_weights(folder, checkpoint.weights_file(folder, weights))
    with publish_folder(out) as temporary:
        _write(temporary / "transformer", described, wan_weights.weights_to_wan(own, model.layers))
        if has_vae := described_vae.get("_class_name") == VAE:
            statistics = latent_statistics(config["data"], codec)
            copy_vae(codec_folder, temporary / "vae", vae_config(described_vae, statistics))
            text = Path(str(config["data"]["text"]).removeprefix(UMT5))
            if (text / "text_encoder").is_dir() and (text / "tokenizer").is_dir():
                _complete(temporary, text, _shift(config))
                return "a pipeline for diffusers: WanPipeline.from_pretrained(FOLDER)"
    if has_vae:
        return "transformer/ and vae/ for diffusers; no pipeline, because its text encoder is not umT5, or is gone"
    return "transformer/ for diffusers; no vae/, because diffusers does not have goku's linear VAE"


def _shift(config: dict[str, Any]) -> float:
    """Return the shift of the size that the checkpoint was trained on: a scheduler of diffusers has one for all."""
    height, width = parse_size(config["data"]["size"])
    law = build(Objective, config["objective"], where="objective").shift
    return law.of((1, 1 + (int(config["data"]["frames"]) - 1) // 4, height // 8, width // 8))


def _complete(folder: Path, source: Path, shift: float) -> None:
    """Add text encoder, tokenizer, scheduler and index to a transformer and a VAE."""
    parts = {"transformer": ("diffusers", "WanTransformer3DModel"), "vae": ("diffusers", VAE)}
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(source / part, folder / part, copy_function=lambda a, b: same_file(Path(a), Path(b)))
    tokenizer = read_json(folder / "tokenizer" / "tokenizer_config.json").get("tokenizer_class", "T5TokenizerFast")
    parts |= {"text_encoder": ("transformers", "UMT5EncoderModel"), "tokenizer": ("transformers", tokenizer)}
    (folder / "scheduler").mkdir()
    about = {"_class_name": SCHEDULER, "_diffusers_version": version("diffusers")}
    described = {**about, "prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(described, indent=1) + "\n")
    index = about | {"_class_name": "WanPipeline"} | parts | {"scheduler": ("diffusers", SCHEDULER)}
    (folder / "model_index.json").write_text(json.dumps(index, indent=1) + "\n")


def vae_config(config: dict[str, Any], statistics: Statistics) -> dict[str, Any]:
    """Return a VAE's config.json without a run's keys, with what the transformer's latents are normalized by."""
    kept = {name: value for name, value in config.items() if name not in RUN}
    return kept | {"latents_mean": list(statistics.mean), "latents_std": list(statistics.std)}


def _write(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    folder.mkdir()
    tensors = {name: value.contiguous() for name, value in weights.items()}
    save_file(tensors, folder / f"{STEM}.safetensors", metadata={"format": "pt"})
    described = {"_diffusers_version": version("diffusers"), **config}
    (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n")
