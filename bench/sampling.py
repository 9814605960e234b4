"""What drawing costs, and what caches save: python bench/sampling.py CHECKPOINT [--clips 16] [--steps 30]

Turn by turn in one process and thread: without and with the texts' keys and values kept from step to step, and with
blocks skipped for drifts of 0.02, 0.05 and 0.1 of the latent. Seconds of the process for a batch, medians, and the
largest drift of a clip of the batch, of what was calibrated on four of them.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch

from goku_cli.model.sampling import guidance
from goku_cli.sample.generate import Generator, SampleSettings
from goku_cli.shapes.prompts import benchmark_prompts

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("checkpoint", type=Path)
parser.add_argument("--clips", type=int, default=16)
parser.add_argument("--steps", type=int, default=30)
parser.add_argument("--rounds", type=int, default=3)
DRIFTS = (0.02, 0.05, 0.1)


def main() -> None:
    """Print one line per way of drawing."""
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = Generator.load(arguments.checkpoint)
    prompts = [row["prompt"] for row in benchmark_prompts() if row["frames"] > 1]
    requests = [generator.request(prompts[i % len(prompts)], i) for i in range(arguments.clips)]
    plain = SampleSettings(steps=arguments.steps)
    ways = {"no caches": plain, "texts kept": plain} | {f"drift {d:g}": replace(plain, cache=d) for d in DRIFTS}
    took: dict[str, list[float]] = {name: [] for name in ways}
    latents = {}
    for _ in range(arguments.rounds):
        for name, settings in ways.items():
            calibrated = generator.calibrate(requests, settings) if settings.cache else 0.0
            with (
                patch.object(guidance, "KEY_BYTES", 0 if name == "no caches" else guidance.KEY_BYTES),
                patch.object(generator, "calibrate", lambda *_, found=calibrated: found),  # once for a set, not here
            ):
                started = time.process_time()
                clips = list(generator.generate(requests, settings))
                took[name].append(time.process_time() - started)
            latents[name] = (torch.stack([clip.latent for clip in clips]), calibrated, generator.skipped)
    exact, base = latents["no caches"][0], statistics.median(took["no caches"])
    print(f"{'':14}{'seconds':>9}{'of plain':>9}{'threshold':>11}{'skipped':>9}{'drift':>9}")
    for name in ways:
        seconds = statistics.median(took[name])
        latent, threshold, skipped = latents[name]
        drift = max(float((a - b).norm() / b.norm()) for a, b in zip(latent, exact, strict=True))
        print(f"{name:14}{seconds:9.2f}{seconds / base:9.2f}{threshold:11.2f}{skipped:9.0%}{drift:9.4f}")


if __name__ == "__main__":
    main()
