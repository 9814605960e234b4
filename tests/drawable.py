"""Checkpoints to draw from that nobody trained: random weights, so that everything the model reads matters."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from goku_cli.model.network.presets import model_config
from goku_cli.model.network.transformer import Goku
from goku_cli.model.objective.objective import Objective
from goku_cli.model.vae.codec import codec_fingerprint
from goku_cli.model.vae.linear_codec import LinearCodec
from goku_cli.model.weights.checkpoint import finish, write_weights


def random_model(**changes) -> Goku:
    """Return a nano model of which no part is zero."""
    torch.manual_seed(0)
    model = Goku(model_config("nano", latent_channels=8, **{"text_dim": 96, **changes}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3 / max(1, parameter.shape[-1]) ** 0.5)
    return model.eval()


def make_checkpoint(folder: Path, classes: tuple[str, ...] = (), **changes) -> Path:
    """Write a checkpoint that draws 9 frames of 48x80, or what `changes` of the model make of it."""
    names = {"classes": [{"key": name, "text": name} for name in classes]} if classes else {}
    model = random_model(**({"classes": len(classes), "text_dim": 0} if classes else {}), **changes)
    temporary = folder.with_name(f".{folder.name}")
    (temporary / "vae").mkdir(parents=True)
    LinearCodec.fit([torch.rand(3, 9, 48, 80) * 2 - 1], 8).save(temporary / "vae")
    data = {
        "manifest": "", "codec": "vae", "codec_sha256": codec_fingerprint(temporary / "vae"), "text": "tiny",
        "fps": 8.0, "frames": 9, "size": "48x80", **names,
    }  # fmt: skip
    config = {"kind": "flow", "model": asdict(model.config), "objective": asdict(Objective()), "data": data}
    (temporary / "config.json").write_text(json.dumps(config))
    write_weights(temporary, "ema.safetensors", model.state_dict())
    finish(temporary, folder)
    return folder
