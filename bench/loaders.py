"""Packs beside buckets and padding on a manifest's own samples: python bench/loaders.py MANIFEST [--steps 20]

The same model and samples of a step, as the trainer draws them: all in one pack, one batch for each shape, or
Model and samples of a step are the same, as the trainer draws them: all in one pack, one batch for each shape, or
backward and AdamW, turn by turn.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from goku_cli.manifest.store import Manifest
from goku_cli.train.distributed.topology import Ranks
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import Recipe, TrainConfig
from goku_cli.train.tasks.build import make_task

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("manifest", type=Path)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--size", default="tiny")
parser.add_argument("--tokens", type=int, default=1024)
options = parser.parse_args()


def packed(task, examples, weight):
    return [task.steps._batch(examples, weight, 0)]


def bucketed(task, examples, weight):
    shapes = defaultdict(list)
    for example in examples:
        shapes[example.latent.shape].append(example)
    return [task.steps._batch(alike, weight, 0) for alike in shapes.values()]


def padded(task, examples, weight):
    largest = [max(sizes) for sizes in zip(*(example.latent.shape for example in examples), strict=True)]

    def fill(x):
        return F.pad(
            x, [n for have, want in reversed(list(zip(x.shape, largest, strict=True))) for n in (0, want - have)]
        )

    return [task.steps._batch([replace(e, latent=fill(e.latent), x_0=fill(e.x_0)) for e in examples], weight, 0)]


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    recipe = Recipe("flow", TrainConfig(steps=1, tokens_per_step=options.tokens, lr=1e-3), size=options.size)
    with Manifest(options.manifest) as manifest:
        run = prepare(manifest, manifest.selection(None), recipe, "bench", folder)
    task = make_task(run.folder, json.loads((run.folder / "recipe.json").read_text()), recipe, Ranks())
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-3)
    rates = defaultdict(list)
    for step in range(options.steps):
        draws = task.steps.latents.draw(step, options.tokens)
        examples = [task.steps.latents.read(draw) for draw in draws]
        useful = sum(draw.tokens for draw in draws)
        for way in (packed, bucketed, padded):
            batches = way(task, examples, 1 / useful)
            started = time.process_time()
            for batch in batches:
                task.loss(task.model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            rates[way.__name__].append(useful / (time.process_time() - started))
        task.records()
        task.diagnose()
    best = statistics.median(rates["packed"])
    for name, found in rates.items():
        rate = statistics.median(found)
        print(f"{name:9} {rate:7,.0f} useful tokens per CPU second, {rate / best:.2f} of packed")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
