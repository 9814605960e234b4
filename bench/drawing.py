"""What it costs to know what a step trains on, at the paper's size: python bench/drawing.py [--rows 36000000]

An index of so many windows, 30 % of them clips of 25 latent frames at 480 lines, is written into a folder. Then a rank
maps it, draws steps of about 2,048 samples, and gives them to 256 packs: seconds until the first step, bytes of its own
memory for each row, microseconds for each drawn sample.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from goku_cli.model.network.flops import step_flops
from goku_cli.model.network.presets import model_config
from goku_cli.train.data.batching import plan_step
from goku_cli.train.data.index import ROWS, TEXTS, Index, TensorRef
from goku_cli.train.data.sampler import Latents

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rows", type=int, default=36_000_000)
parser.add_argument("--samples", type=int, default=2048)
parser.add_argument("--packs", type=int, default=256)
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--folder", type=Path, default=None)
options = parser.parse_args()
SHAPES = ((16, 1, 60, 108), (16, 25, 60, 108))
TOKENS = (1_620, 40_500)


def make(folder: Path, count: int) -> None:
    """Write an index of random rows, each with one text."""
    rng = np.random.default_rng(0)
    video = rng.random(count) < 0.3
    given = {
        "image": ~video, "tokens": np.where(video, TOKENS[1], TOKENS[0]), "shape": video, "weight": rng.random(count),
        "held_out": rng.random(count) < 0.05, "first": np.arange(count), "texts": np.ones(count),
    }  # fmt: skip
    for table, columns in (("rows", ROWS), ("texts", TEXTS)):
        for name, kind in columns.items():
            values = given.get(name) if table == "rows" else np.full(count, 100) if name == "tokens" else None
            values = np.zeros(count, kind) if values is None else values.astype(kind)
            values.tofile(folder / f"{table}.{name}")
    (folder / "names.json").write_text(json.dumps({"shards": ["s"], "shapes": SHAPES, "sources": ["given"]}))


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        make(Path(name), options.rows)
        process = psutil.Process()
        before, started = process.memory_full_info().uss, time.monotonic()
        index = Index.open(Path(name))
        latents = Latents(
            index, None, Path(), TensorRef("", "", 0), seed=0, image_share=0.2, text_dropout=0.1, image_dropout=0.1
        )
        latents.text = lambda place: torch.zeros(1, 8)
        config = model_config("8b", latent_channels=16, text_dim=2048)
        mean = 1 / (0.2 / TOKENS[0] + 0.8 / TOKENS[1])  # tokens of a sample, by the share of tokens
        drawn, seconds = 0, []
        for step in range(options.steps):
            begun = time.process_time()
            draws = latents.draw(step, int(options.samples * mean))
            costs = step_flops(config, draws.tokens, draws.text_tokens)
            plan_step(costs, draws.tokens, options.packs, 45_000)
            seconds.append(time.process_time() - begun)
            drawn += len(draws) if step else 0
            if not step:
                ready = time.monotonic() - started
        own = process.memory_full_info().uss - before
        print(f"{options.rows:,} rows: first step after {ready:.1f} s")
        print(f"{own / options.rows:.0f} bytes a row of the rank's own memory, beside {len(ROWS)} mapped columns")
        print(f"{1e6 * sum(seconds[1:]) / drawn:.2f} us a drawn sample ({drawn / (options.steps - 1):,.0f} a step)")


if __name__ == "__main__":
    main()
