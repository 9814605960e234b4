"""`goku train` at 2B on latents that were made up, end to end: its rate beside the bare step's, its waits, its memory.

A step is 14,400 tokens of clips and images with the text states of FLAN-T5-XL. It is ended before its first checkpoint.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from launched import Training
from lines import arguments, attempt, report
from made import Sample, make

from goku_cli.encode.settings import EncodeSettings
from goku_cli.model.vae.linear_codec import LinearCodec

RECIPE = """
kind = "flow"
size = "{size}"
[train]
steps = 100000
tokens_per_step = {tokens}
lr = 1e-4
bf16 = {bf16}
compile = {bf16}
log_every = {log_every}
eval_every = 100000
save_every = 100000
recompute = {{policy = "attention"}}
[parallel]
zero_stage = {zero}
"""
CAPTIONS, TEXT_ROWS, TEXT_WIDTH = 64, 120, 2048
LINES = 7
"""Of figures, of which the first, with compilation, does not count."""


def main() -> None:
    """Report what the log of a run of each ZeRO stage says."""
    options = arguments(__doc__)
    began = time.monotonic()
    size, latent, tokens = ("nano", (3, 6, 10), 256) if options.smoke else ("2b", (25, 36, 64), 14_400)
    rng = np.random.default_rng(0)
    captions = [f"caption {i}" for i in range(CAPTIONS)]
    states = {
        text: rng.standard_normal((TEXT_ROWS if text else 1, TEXT_WIDTH), np.float32).astype(np.float16)
        for text in (*captions, "")
    }
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        codec = LinearCodec.fit([torch.rand(3, 5, 48, 80) * 2 - 1], 16)
        clips = [latent] * 12 + [(1, *latent[1:])] * 24
        samples = (
            Sample(rng.standard_normal((16, *shape), np.float32).astype(np.float16), captions[i % CAPTIONS])
            for i, shape in enumerate(clips)
        )
        settings = EncodeSettings(size=f"{8 * latent[1]}x{8 * latent[2]}", frames=4 * latent[0] - 3, fps=24.0)
        manifest = make(where / "made.duckdb", samples, codec, settings, "tiny", states)
        for zero in (0, 1):
            case = f"{size}, zero_stage {zero}"
            with attempt(case):
                recipe = where / f"zero{zero}.toml"
                recipe.write_text(RECIPE.format(
                    size=size, tokens=tokens, zero=zero, bf16=str(options.device.type == "cuda").lower(),
                    log_every=1 if options.smoke else 4,
                ))  # fmt: skip
                training = Training(recipe, manifest, where / f"runs{zero}", options.out / "train.launch.log")
                try:
                    for _ in training.wait((options.seconds - (time.monotonic() - began)) / (2 - zero), LINES):
                        pass
                    told(case, training)
                finally:
                    training.stop()


def told(case: str, training: Training) -> None:
    """Report a run's figures, and what was foretold of it."""
    lines = training.lines()[1:]
    if not lines or training.run is None:
        report(case, failed="it logged too little in its time")
        return
    foretold = json.loads((training.run / "forecast.json").read_text())
    middle = {
        name: statistics.median(line[name] for line in lines)
        for name in ("tokens_per_second", "data_wait", "mfu", "memory_bytes", "steps_per_second")
        if name in lines[0]
    }
    report(
        case, tokens_per_second=middle["tokens_per_second"], mfu=middle.get("mfu"), data_wait=middle["data_wait"],
        peak_gib=middle.get("memory_bytes", 0) / 2**30, foretold_gib=foretold.get("memory_bytes", 0) / 2**30,
        step_seconds=1 / middle["steps_per_second"], foretold_step_seconds=foretold.get("step_seconds"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
