"""Seconds a step of drawing: 2B, guidance, a clip of 97 frames of 480x864 (40,500 tokens); beside diffusers' Wan."""

import time

import torch
import transformer  # bench/transformer.py
from lines import arguments, attempt, peak_gib, report

from goku_cli.checkup.kernels import synchronize
from goku_cli.model.network.transformer import Goku
from goku_cli.model.objective.objective import Objective
from goku_cli.model.sampling.guidance import Condition, Guidance, draw

STEPS = 6
TEXT = 256


def main() -> None:
    """Report each way of drawing."""
    options = arguments(__doc__)
    size, shape = ("10m", (16, 3, 12, 20)) if options.smoke else ("2b", (16, 25, 60, 108))
    dims, device, half = transformer.DIMS[size], options.device, options.device.type == "cuda"
    noise, text = torch.randn(shape), torch.randn(TEXT, transformer.TEXT_WIDTH)
    model = Goku(transformer.goku_config(dims, False)).to(device).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    condition = Condition(text, torch.randn(1, transformer.TEXT_WIDTH))
    for case, cache in (("goku", 0.0), ("goku, step cache 0.1", 0.1)):
        with attempt(case):
            how = Guidance(STEPS, 5.0, "euler", cache=cache)
            seconds, skipped = [], 0.0
            for _ in range(2):
                synchronize(device)
                started = time.perf_counter()
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    drawn = draw(model, Objective(), [noise], [condition], how, device)
                synchronize(device)
                seconds.append((time.perf_counter() - started) / STEPS)
                skipped = drawn.skipped / max(drawn.evaluations, 1)
            report(case, seconds_per_step=seconds[-1], skipped=skipped, peak_gib=peak_gib())
    del model
    case = "diffusers' Wan"
    with attempt(case):
        theirs = transformer.wan(dims).to(device).eval()
        given = noise[None].repeat(2, 1, 1, 1, 1).to(device), torch.tensor([500.0, 500.0], device=device)
        texts = text[None].repeat(2, 1, 1).to(device)
        seconds = []
        for _ in range(3):
            synchronize(device)
            started = time.perf_counter()
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
                theirs(*given, texts, return_dict=False)
            synchronize(device)
            seconds.append(time.perf_counter() - started)
        report(case, seconds_per_step=min(seconds[1:]), peak_gib=peak_gib())


if __name__ == "__main__":
    main()
