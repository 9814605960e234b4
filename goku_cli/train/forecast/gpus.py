"""GPUs by name: what their makers' data sheets say of them, for forecasts and for MFU."""

import re
from dataclasses import dataclass

from goku_cli.errors import UsageError
from goku_cli.registry import nearest

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU."""

    flops: float
    """Operations a second, bfloat16 matrix products with float32 sums, without sparsity."""
    memory: int
    """Bytes that a program can ask for, as PyTorch reports them."""
    device: str
    """Pattern of the whole name that its driver gives it; a variant with another clock is another GPU."""


GPUS = {
    "rtx-3090": Gpu(71e12, int(23.6 * GIB), r"NVIDIA GeForce RTX 3090"),
    "rtx-4090": Gpu(165.2e12, int(23.6 * GIB), r"NVIDIA GeForce RTX 4090"),
    "a100-40gb": Gpu(312e12, int(39.4 * GIB), r"(NVIDIA )?A100-(SXM4|PCIE)-40GB"),
    "a100-80gb": Gpu(312e12, int(79.1 * GIB), r"NVIDIA A100(-SXM4-80GB| 80GB PCIe)"),
    "h100": Gpu(989.4e12, int(79.1 * GIB), r"NVIDIA H100 80GB HBM3"),
    "h200": Gpu(989.4e12, int(139.8 * GIB), r"NVIDIA H200"),
    "b200": Gpu(2250e12, int(178 * GIB), r"NVIDIA B200"),
}


def gpu_named(name: str) -> Gpu:
    """Return a row of the table.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in GPUS:
        raise UsageError(f'unknown GPU "{name}"{nearest(name, GPUS)}; known: {", ".join(GPUS)}')
    return GPUS[name]


def recognized(device: str) -> str:
    """Return the name in the table of what a driver calls its GPU; nothing when it is none of them."""
    return next((name for name, gpu in GPUS.items() if re.fullmatch(gpu.device, device)), "")


def gpu_here() -> str:
    """Return the name in the table of this machine's first GPU; nothing when there is none, or none of them."""
    import torch

    return recognized(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else ""
