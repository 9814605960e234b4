"""Attention over packed sequences: each sample attends to itself, or to its own text, and to nothing else.

One function, several kernels. On a GPU the variable-length kernels of flash-attn or of torch itself run over the
whole pack. On a CPU neither exists, and one scaled-dot-product call per run of equally long samples is the
fastest form (a block-diagonal mask over the pack is 2.4 to 2.9 times slower).

Shapes: N queries, M keys, H heads, D head dimension; lengths sum to N and to M.
"""

import importlib.util
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from goku_cli.model.packing import cumulative

Lengths = tuple[int, ...]


def backend(device: torch.device) -> str:
    """Return the name of the kernel that runs on a device: "flash-attn", "torch varlen" or "sdpa"."""
    if device.type != "cuda":
        return "sdpa"
    if importlib.util.find_spec("flash_attn"):
        return "flash-attn"
    return "torch varlen" if importlib.util.find_spec("torch.nn.attention.varlen") else "sdpa"


def packed_attention(q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, q_lengths: Lengths, k_lengths: Lengths) -> Tensor:
    """Return softmax(q k / sqrt(D)) v, sample by sample: (N, H, D)."""
    kernel = backend(q_NHD.device) if q_NHD.dtype in (torch.bfloat16, torch.float16) else "sdpa"
    if kernel == "sdpa":
        return _sdpa(q_NHD, k_MHD, v_MHD, q_lengths, k_lengths)
    cu_q, cu_k = (cumulative(lengths).to(q_NHD.device) for lengths in (q_lengths, k_lengths))
    if kernel == "flash-attn":
        from flash_attn import flash_attn_varlen_func

        return flash_attn_varlen_func(q_NHD, k_MHD, v_MHD, cu_q, cu_k, max(q_lengths), max(k_lengths))
    from torch.nn.attention.varlen import varlen_attn

    output: Tensor = varlen_attn(q_NHD, k_MHD, v_MHD, cu_q, cu_k, max(q_lengths), max(k_lengths))  # type: ignore[assignment]
    return output


def _sdpa(q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, q_lengths: Lengths, k_lengths: Lengths) -> Tensor:
    outputs, q_start, k_start, dtype = [], 0, 0, q_NHD.dtype
    if (
        q_NHD.device.type == "cpu" and dtype == torch.bfloat16
    ):  # its bfloat16 backward is ten times slower than its float32 one
        q_NHD, k_MHD, v_MHD = q_NHD.float(), k_MHD.float(), v_MHD.float()
    for (n, m), run in itertools.groupby(zip(q_lengths, k_lengths, strict=True)):
        b = len(list(run))
        q, k, v = (
            x[start : start + b * length].unflatten(0, (b, length)).transpose(1, 2)
            for x, start, length in ((q_NHD, q_start, n), (k_MHD, k_start, m), (v_MHD, k_start, m))
        )
        outputs.append(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1).to(dtype))
        q_start, k_start = q_start + b * n, k_start + b * m
    return torch.cat(outputs)
