"""What a check of this folder prints: a JSON object a line, so that what it found stays when its time ends."""

import argparse
import contextlib
import gc
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from goku_cli.checkup.kernels import first_line
from goku_cli.train.forecast.gpus import gpu_here, gpu_named


def arguments(about: str) -> argparse.Namespace:
    """Return a check's options: its device, whether it is only tried, and where it may leave files."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=600.0, help="that it may take")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before it was done"))  # what was started ends as well
    options.device = torch.device(options.device)
    return options


def report(case: str, **figures: Any) -> None:
    """Print what was found of one case."""
    sys.stdout.write(json.dumps({"case": case, **figures}) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def attempt(case: str) -> Iterator[None]:
    """Report what a case raises, in one line, and give its memory back: the next one goes on."""
    try:
        yield
    except Exception as error:
        report(case, failed=first_line(error))
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float:
    """Return the most memory that was held since the last case began; 0 without a GPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0


def utilization(flops_per_second: float) -> float | None:
    """Return the share of the data sheet's peak; None without a GPU of the table."""
    name = gpu_here()
    return flops_per_second / gpu_named(name).flops if name else None
