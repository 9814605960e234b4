"""What the trainer costs beside the bare loop: python bench/trainer.py MANIFEST [--steps 40] [--size tiny]

The bare loop does forward, backward, clipping and AdamW on batches that lie ready. The trainer does the same steps
with data, DeepSpeed, averages, logs and the judging of every step. Turn by turn in one process, one rank, one thread;
seconds of the process and of the wall, and the share of its steps that the trainer waits for data.
"""

import argparse
import functools
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from goku_cli.manifest.store import Manifest
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import Parallel, Recipe, TrainConfig

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("manifest", type=Path)
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--size", default="tiny")
parser.add_argument("--tokens", type=int, default=1024)
parser.add_argument("--zero", type=int, default=1)
options = parser.parse_args()


def bare(task, batches) -> None:
    """Train a copy of the model as simply as possible."""
    model = task.model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
    for batch in batches:
        loss = task.loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    task.records()
    task.diagnose()


def main() -> None:
    from goku_cli.train.distributed.engine import start_ranks
    from goku_cli.train.tasks.build import make_task
    from goku_cli.train.trainer import Trainer

    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = "29511"
    torch.set_num_threads(1)
    start_ranks()
    train = TrainConfig(
        steps=options.steps, tokens_per_step=options.tokens, lr=1e-3, eval_every=10**9, save_every=10**9, log_every=10
    )
    recipe = Recipe("flow", train, size=options.size, parallel=Parallel(zero_stage=options.zero))
    folder = Path(tempfile.mkdtemp())
    with Manifest(options.manifest) as manifest:
        run = prepare(manifest, manifest.selection(None), recipe, "bench", folder)
    found = {"bare": [], "trainer": []}
    for _ in range(options.rounds):
        worker = Trainer(run.folder)
        worker.evaluate = lambda: None
        worker.save = lambda: None
        plain = make_task(run.folder, worker.plan, worker.recipe, worker.ranks)
        batches = [batch for step in range(options.steps) for batch in plain.prepare(step).batches]
        for name, work in (("bare", functools.partial(bare, plain, batches)), ("trainer", worker.train)):
            cpu, wall = time.process_time(), time.monotonic()
            work()
            found[name].append((time.process_time() - cpu, time.monotonic() - wall))
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    for name, times in found.items():
        cpu, wall = (min(column) / options.steps for column in zip(*times, strict=True))
        print(f"{name:8} {cpu:.4f} CPU s a step, {wall:.4f} s of the wall")
    pairs = list(zip(found["bare"], found["trainer"], strict=True))
    ratio = [statistics.median(b[i] / a[i] for a, b in pairs) for i in (0, 1)]
    print(f"trainer / bare: {ratio[0]:.3f} in CPU time, {ratio[1]:.3f} on the wall (medians of {options.rounds})")
    print(f"data wait: {statistics.median(line['data_wait'] for line in lines if 'data_wait' in line):.2%}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
