"""Attention over packed sequences: each sample attends to itself, or to its own text, and to nothing else.

One function, several kernels. On a GPU the variable-length kernels of flash-attn or of torch itself run over the
whole pack. On a CPU they do not exist, and one scaled-dot-product call per run of equally long samples is the
fastest form (a block-diagonal mask over the pack is 2.4 to 2.9 times slower). No kernel here builds a mask of N x M.

Shapes: N queries, M keys, H heads, D head dimension.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from goku_cli.errors import UsageError
from goku_cli.model.network.packing import Sequences
from goku_cli.registry import nearest

SHORT = 32
"""Keys of a sample up to which a compiled CPU step sums in place of calling a kernel."""


def packed_attention(
    q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, queries: Sequences, keys: Sequences, kernel: str = "auto"
) -> Tensor:
    """Return softmax(q k / sqrt(D)) v, sample by sample: (N, H, D).

    `kernel` is one of KERNELS, or "auto" for what `resolve` chooses.
    """
    name = resolve(kernel, q_NHD.device.type, q_NHD.dtype) if kernel == "auto" else kernel
    return KERNELS[name](q_NHD, k_MHD, v_MHD, queries, keys)


@torch.compiler.assume_constant_result
def resolve(kernel: str, device: str, dtype: torch.dtype) -> str:
    """Return the kernel that runs on a device with a dtype: the one named or, for "auto", the fastest that is there.

    Raises:
        UsageError: no such kernel, it is not installed, or it does not run on this device or in this dtype.
    """
    if kernel not in ("auto", *KERNELS):
        raise UsageError(f'unknown attention "{kernel}"{nearest(kernel, KERNELS)}; known: auto, {", ".join(KERNELS)}')
    half = device == "cuda" and dtype in (torch.bfloat16, torch.float16)
    able = [name for name in KERNELS if installed(name) and (half or name == "sdpa")]
    if kernel == "auto":
        return able[0]
    if kernel not in able:
        raise UsageError(f"attention {kernel} does not run here (it needs its package, a GPU, and bf16 = true); "
                         f"take one of: auto, {', '.join(able)}")  # fmt: skip
    return kernel


@functools.cache
def installed(name: str) -> bool:
    """Return whether a kernel's package is there."""
    modules = {
        "flash-attn-3": "flash_attn_interface",
        "flash-attn-2": "flash_attn",
        "varlen": "torch.nn.attention.varlen",
    }
    return name not in modules or importlib.util.find_spec(modules[name]) is not None


def _sdpa(q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, queries: Sequences, keys: Sequences) -> Tensor:
    dtype = q_NHD.dtype
    if q_NHD.device.type == "cpu" and dtype == torch.bfloat16:
        # Its bfloat16 backward is ten times slower than its float32 one.
        q_NHD, k_MHD, v_MHD = q_NHD.float(), k_MHD.float(), v_MHD.float()
    outputs, q_start, k_start = [], 0, 0
    for b, n, m in _alike(queries, keys):
        q, k, v = (
            x[start : start + b * length].unflatten(0, (b, length)).transpose(1, 2)
            for x, start, length in ((q_NHD, q_start, n), (k_MHD, k_start, m), (v_MHD, k_start, m))
        )
        outputs.append(_attend(q, k, v).transpose(1, 2).flatten(0, 1))
        q_start, k_start = q_start + b * n, k_start + b * m
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs)).to(dtype)


def _attend(q_BHND: Tensor, k_BHMD: Tensor, v_BHMD: Tensor) -> Tensor:
    """Return softmax(q k / sqrt(D)) v of B alike samples: (B, H, N, D).

    Of short samples a compiler makes one loop of the plain sums, which costs less than a kernel's call for each.
    """
    if not torch.compiler.is_compiling() or k_BHMD.device.type != "cpu" or k_BHMD.shape[2] > SHORT:
        return F.scaled_dot_product_attention(q_BHND, k_BHMD, v_BHMD)
    scores_BHNM = (q_BHND[:, :, :, None] * k_BHMD[:, :, None]).sum(-1) * q_BHND.shape[-1] ** -0.5
    return (scores_BHNM.softmax(-1)[..., None] * v_BHMD[:, :, None]).sum(3)


def _alike(queries: Sequences, keys: Sequences) -> Iterator[tuple[int, int, int]]:
    """Yield (samples, queries of each, keys of each) for neighbors that are equally long in both.

    By comparisons, since a compiler that is told of Min(a, b) samples makes slow loops of them.
    """
    if queries is keys:
        yield from ((count, n, n) for count, n in queries.runs)
        return
    runs = list(keys.runs)
    for count, n in queries.runs:
        while count > runs[0][0]:
            there, m = runs.pop(0)
            yield there, n, m
            count -= there
        there, m = runs.pop(0)
        yield count, n, m
        if there > count:
            runs.insert(0, (there - count, m))


# Each kernel is imported where it is called, since it may not be there; a compiler follows only an import statement.
def _varlen(q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, queries: Sequences, keys: Sequences) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    return _called(varlen_attn, q_NHD, k_MHD, v_MHD, queries, keys)


def _flash_2(q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, queries: Sequences, keys: Sequences) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    return _called(flash_attn_varlen_func, q_NHD, k_MHD, v_MHD, queries, keys)


def _flash_3(q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, queries: Sequences, keys: Sequences) -> Tensor:
    from flash_attn_interface import flash_attn_varlen_func

    return _called(flash_attn_varlen_func, q_NHD, k_MHD, v_MHD, queries, keys)


def _called(
    attend: Callable[..., Any], q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, queries: Sequences, keys: Sequences
) -> Tensor:
    output = attend(q_NHD, k_MHD, v_MHD, queries.cu_seqlens, keys.cu_seqlens, queries.longest, keys.longest)
    attended: Tensor = output[0] if isinstance(output, tuple) else output  # early flash-attn 3 adds the log-sum-exp
    return attended


@functools.cache
def _compiled_flex(device: str) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    # Uncompiled, it would build all N x M scores. Its CPU code for sizes that vary does not compile (torch 2.15).
    return torch.compile(flex_attention, dynamic=device != "cpu")


def _flex(q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, queries: Sequences, keys: Sequences) -> Tensor:
    q, k, v = (x.transpose(0, 1)[None] for x in (q_NHD, k_MHD, v_MHD))
    return _compiled_flex(q.device.type)(q, k, v, block_mask=_block_mask(queries, keys))[0].transpose(0, 1)


FLEX_BLOCK = 128


def _block_mask(queries: Sequences, keys: Sequences) -> Any:
    """Return the mask of the blocks of 128 x 128 in which a sample meets itself, from where the samples begin."""
    from torch.nn.attention.flex_attention import BlockMask

    of_query, of_key = queries.sample, keys.sample

    def same(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return of_query[q] == of_key[k]

    first_q, last_q = of_query[::FLEX_BLOCK], _block_ends(of_query)
    first_k, last_k = of_key[::FLEX_BLOCK], _block_ends(of_key)
    meets = (first_q[:, None] <= last_k) & (first_k <= last_q[:, None])
    count = meets.sum(1, dtype=torch.int32)
    order = torch.argsort(meets.int(), dim=1, descending=True, stable=True).int()
    return BlockMask.from_kv_blocks(
        count[None, None], order[None, None], BLOCK_SIZE=FLEX_BLOCK, mask_mod=same,
        seq_lengths=(len(of_query), len(of_key)),
    )  # fmt: skip


def _block_ends(sample: Tensor) -> Tensor:
    return torch.cat([sample[FLEX_BLOCK - 1 :: FLEX_BLOCK], sample[-1:]])[: -(-len(sample) // FLEX_BLOCK)]


KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, Sequences, Sequences], Tensor]] = {
    "flash-attn-3": _flash_3,
    "flash-attn-2": _flash_2,
    "varlen": _varlen,
    "flex": _flex,
    "sdpa": _sdpa,
}
