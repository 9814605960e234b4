"""encode-latents against the codec alone, and random reads of shards against copying memory.

python bench/encode.py FOLDER       # empty; takes 1.5 GB there for a while
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from encoded import WAN, make_encoded

from goku_cli.encode.clip import clip_windows
from goku_cli.encode.encode import encode_latents, selected_clips
from goku_cli.encode.settings import EncodeSettings
from goku_cli.manifest.shards import ShardReader, write_shard
from goku_cli.manifest.store import Manifest
from goku_cli.model.vae.codec import load_codec
from goku_cli.model.vae.diffusers_codec import build
from goku_cli.model.vae.linear_codec import to_unit
from goku_cli.stage import Quiet

LATENT = (16, 25, 60, 108)
"""97 frames of 480x864."""
SHARDS, EACH = 4, 50
READS = 400


def encode(folder: Path) -> None:
    path = make_encoded(folder, videos=8, images=0)
    torch.manual_seed(0)
    build(WAN | {"base_dim": 16}).save_pretrained(folder / "wan")
    settings = EncodeSettings(vae=str(folder / "wan"), size="96x160", frames=25, fps=24, windows=2)
    torch.set_num_threads(1)
    with Manifest(path) as manifest:
        codec = load_codec(folder / "wan")
        ready = [
            to_unit(frames)
            for clip in selected_clips(manifest, "small")
            for _, frames in clip_windows(clip, settings, codec.period, settings.windows)
        ]
        codec.moments(ready[0])
        # CPU seconds of this one process, which do the work of both, since neighbors make wall time mean little.
        started = time.process_time()
        for video in ready:
            codec.moments(video)
        alone = time.process_time() - started
        manifest.begin_run("bench", {})
        started = time.process_time()
        clips, _ = encode_latents(manifest, "small", settings, workers=1, progress=Quiet())
        whole = time.process_time() - started
    print(f"{len(ready)} windows of {clips.done} clips: codec alone {alone:.2f} s, encode-latents {whole:.2f} s, "
          f"ratio {alone / whole:.2f}")  # fmt: skip


def read(folder: Path) -> None:
    rng = np.random.default_rng(0)
    block = rng.standard_normal(LATENT).astype(np.float16)
    for shard in range(SHARDS):
        write_shard(folder / f"{shard}.safetensors", {f"{i}": block + np.float16(i) for i in range(EACH)})
    reader = ShardReader(folder)
    places = [(f"{rng.integers(SHARDS)}.safetensors", f"{rng.integers(EACH)}") for _ in range(READS)]
    for shard in range(SHARDS):
        for i in range(EACH):
            reader.read(f"{shard}.safetensors", f"{i}")
    started = time.perf_counter()
    for place in places:
        reader.read(*place)
    took = time.perf_counter() - started
    sources = [block.copy() for _ in range(EACH)]
    started = time.perf_counter()
    for _ in range(READS):
        sources[int(rng.integers(EACH))].copy()
    copied = time.perf_counter() - started
    size = READS * block.nbytes / 1e9
    print(f"{READS} random reads of {block.nbytes / 1e6:.1f} MB: {size / took:.2f} GB/s, "
          f"copies {size / copied:.2f} GB/s, ratio {copied / took:.2f}")  # fmt: skip


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    encode(folder / "encode")
    read(folder / "read")
