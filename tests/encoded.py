"""A small encoded manifest made of real files: what the model's tests start from."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from goku_cli.encode.encode import encode_latents
from goku_cli.encode.settings import EncodeSettings
from goku_cli.manifest.store import Manifest
from goku_cli.media.ffmpeg import write_image, write_video
from goku_cli.model.vae.diffusers_codec import build
from goku_cli.shapes.caption import caption
from goku_cli.shapes.render import render
from goku_cli.shapes.scene import draw_scene
from goku_cli.stage import Quiet

HEIGHT, WIDTH, FPS = 96, 160, 24


WAN = {
    "_class_name": "AutoencoderKLWan", "base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1,
    "attn_scales": [], "temperal_downsample": [False, True, True], "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4,
}  # fmt: skip


def tiny_wan(folder: Path, weight: float | None = None) -> Path:
    """Write a small Wan VAE of random weights, as diffusers does; with `weight` one of them is that."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = build(WAN)
    if weight is not None:
        model.state_dict()["encoder.conv_in.weight"].fill_(weight)
    model.save_pretrained(folder)
    return folder


def make_encoded(folder: Path, videos: int = 6, images: int = 24) -> Path:
    """Write files, their rows, a selection and captions, and encode them; return the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "small.duckdb"
    rng = np.random.default_rng(0)
    rows: dict[str, list[dict]] = {name: [] for name in ("sources", "source_paths", "clips", "selections", "captions")}
    for index in range(videos + images):
        is_video = index < videos
        scene = draw_scene(rng, "motion" if is_video else "single_object", seconds=1.2 if is_video else 0)
        frames = render(scene, height=HEIGHT, width=WIDTH, fps=FPS, frames=29 if is_video else 1)
        file = folder / f"{index:03d}.{'mp4' if is_video else 'png'}"
        if is_video:
            write_video(file, frames, fps=FPS)
        else:
            write_image(file, frames[0])
        key, end = f"{index * 7919:032x}"[::-1], 29 * 1_000_000 // FPS if is_video else 0
        rows["sources"].append({"id": key, "kind": "video" if is_video else "image"})
        rows["source_paths"].append({"source": key, "path": str(file), "item": str(file)})
        rows["clips"].append({"id": key, "source": key, "start_us": 0, "end_us": end})
        rows["selections"].append({"name": "small", "clip": key, "weight": 1.0})
        text = caption(scene)
        rows["captions"] += [
            {"clip": key, "kind": "given", "text": text},
            {"clip": key, "kind": "merged", "text": f"{text} motion score: 3." if is_video else text},
        ]
    with Manifest(path, create=True) as manifest:
        manifest.begin_run("test", {})
        for table, found in rows.items():
            manifest.insert(table, found)
        settings = EncodeSettings(channels=8, windows=2)
        clips, texts = encode_latents(manifest, "small", settings, workers=1, progress=Quiet())
        assert not clips.failed, clips.reasons
        assert not texts.failed, texts.reasons
    return path
