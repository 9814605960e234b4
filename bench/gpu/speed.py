"""Tokens a second of a training step of the 2B model and of layers of the 8B, one thing changed at a time.

AdamW in float32, bf16 products; a clip of 97 frames of 288x512 (14,400 tokens) and a mixed pack of 2B, one of 480x864
(40,500 tokens) of 8B. Beside them diffusers' Wan of the same width, in batches of equal shapes.
"""

import argparse

import torch
import transformer  # bench/transformer.py
from lines import arguments, attempt, report, utilization

from goku_cli.checkup.kernels import check_kernels

BASE = {"size": "2b", "set": "clip", "case": "goku", "compile": True, "recompute": "attention", "kernel": "auto"}
CASES = (
    {}, {"recompute": "full"}, {"set": "clip and images"}, {"size": "8b-layers", "set": "long clip"},
    {"case": "wan in buckets", "recompute": "full"}, {"compile": False}, {"recompute": "none"},
    {"case": "wan in buckets", "set": "clip and images", "recompute": "full"},
    {"size": "8b-layers", "set": "long clip", "recompute": "full"},
    {"case": "wan in buckets", "recompute": "full", "compile": False},
)  # fmt: skip
STEPS = 4
SMALL = {"size": "10m", "set": "mixed"}


def main() -> None:
    """Report every case; one that needs more memory than there is says so."""
    options = arguments(__doc__)
    right = [v.name for v in check_kernels(options.device, timed=False) if v.right]
    cases = [BASE | case for case in CASES] + [BASE | {"kernel": name} for name in right[1:]]
    if options.smoke:
        cases = [BASE | SMALL, BASE | SMALL | {"case": "wan in buckets", "compile": False}]
    for case in cases:
        name = ", ".join(str(value) for value in case.values() if value is not True and value is not False)
        name += ", compiled" if case["compile"] else ", not compiled"
        with attempt(name):
            torch._dynamo.reset()
            dtype, steps = ("bf16", STEPS) if options.device.type == "cuda" else ("fp32", 1)
            how = argparse.Namespace(**case, device=options.device.type, dtype=dtype, steps=steps)
            figures = transformer.measure(how)
            tokens = sum(t * h * w for t, h, w in transformer.SETS[case["set"]])
            report(
                name, tokens_per_second=tokens / figures["seconds"], mfu=utilization(figures["tflops"] * 1e12),
                seconds=figures["seconds"], peak_gib=figures["peak_mib"] / 1024, parameters_m=figures["parameters_m"],
            )  # fmt: skip


if __name__ == "__main__":
    main()
