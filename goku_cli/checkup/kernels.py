"""Correctness and speed of the attention kernels on this machine's GPU: `goku doctor --gpu`.

Every installed kernel of model/network/attention.py attends over packs of uneven lengths, within samples and to texts,
in bfloat16; outputs and gradients are compared with a softmax in float32, sample by sample.

Shapes: N queries, M keys, H heads, D head dimension.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from goku_cli.errors import GokuError
from goku_cli.model.network.attention import KERNELS, installed, packed_attention
from goku_cli.model.network.packing import Pack, Sequences, pack, unpack
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import Goku

VISION = (1, 300, 64, 64, 129, 1024, 77)
"""Tokens of samples: a single one, equal neighbors, and none a multiple of the kernels' blocks."""
TEXT = (7, 128, 1, 33, 60, 256, 12)
HEADS, HEAD = 4, 64
CPU_TOO = ("sdpa",)
"""Kernels that do without a GPU."""
BOUND = {torch.bfloat16: 2e-2, torch.float32: 1e-4}
"""Of the norm of the difference over the reference's own: bfloat16 has 8 bits, and a gradient sums some thousand."""
TIMED = (8192, 4096, *[256] * 16)
"""Tokens of the samples of the pack that is timed, 16,384 in all."""
TIMED_HEADS = 24
WARM_UP, REPEATS = 2, 5
SMALL = ModelConfig(
    layers=2, dim=HEADS * HEAD, ffn_dim=512, heads=HEADS, rope_split=(16, 24, 24), rope_theta=1e4, latent_channels=16,
    text_dim=64,
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What came out of one check."""

    name: str
    difference: float = 0.0
    """The largest of output and gradients, relative."""
    bound: float = 0.0
    seconds: float = 0.0
    """Of a forward and a backward pass over `TIMED`; 0 where that is not timed."""
    problem: str = ""
    """Why there is no figure: it is not installed, or what it raised."""

    @property
    def right(self) -> bool:
        """Whether it ran and kept to its bound; a difference that is no number does not."""
        return not self.problem and self.difference <= self.bound


def device_here() -> torch.device:
    """Return the GPU.

    Raises:
        GokuError: there is none that PyTorch can use.
    """
    if not torch.cuda.is_available():
        built = f"this PyTorch ({torch.__version__}) is built for CUDA {torch.version.cuda}"
        why = built if torch.version.cuda else f"this PyTorch ({torch.__version__}) is built for CPUs"
        raise GokuError(f"no GPU that PyTorch can use; {why}; look with: nvidia-smi")
    return torch.device("cuda", 0)


def check_kernels(device: torch.device, *, timed: bool = True) -> Iterator[Verdict]:
    """Yield a verdict for every kernel; what one raises is its verdict, and the others go on."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    for name in KERNELS:
        if not installed(name):
            yield Verdict(name, problem="not installed")
        elif device.type == "cpu" and name not in CPU_TOO:
            yield Verdict(name, problem="needs a GPU")
        else:
            yield attempted(name, lambda name=name: _judged(name, device, dtype, timed))  # type: ignore[misc]


def check_model(device: torch.device) -> Iterator[Verdict]:
    """Yield verdicts on the transformer: packed against alone, compiled against not, bfloat16 against float32."""
    model, packed, t_B = _small_model(device)
    with torch.no_grad():
        exact = model(packed, t_B)
    yield attempted("packed against one by one", lambda: _alone(model, packed, t_B, exact))
    yield attempted("compiled blocks", lambda: _compiled(model, packed, t_B, exact))
    yield attempted("bfloat16 against float32", lambda: _halved(model, packed, t_B, exact))


def attempted(name: str, check: Callable[[], Verdict]) -> Verdict:
    """Return a check's verdict; that it raised one line of something is one as well."""
    try:
        return replace(check(), name=name)
    except Exception as error:
        return Verdict(name, problem=first_line(error))


def first_line(error: BaseException) -> str:
    """Return what an exception says, in one line."""
    said = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def difference(found: Tensor, exact: Tensor) -> float:
    """Return the norm of the difference over that of what is exact."""
    found, exact = found.detach().double(), exact.detach().double()
    return float((found - exact).norm() / exact.norm())


def _judged(kernel: str, device: torch.device, dtype: torch.dtype, timed: bool) -> Verdict:
    largest = max(_attention_difference(kernel, device, dtype, keys) for keys in (VISION, TEXT))
    seconds = _seconds(kernel, device, dtype) if timed and largest <= BOUND[dtype] else 0.0
    return Verdict(kernel, largest, BOUND[dtype], seconds)


def _attention_difference(kernel: str, device: torch.device, dtype: torch.dtype, lengths: tuple[int, ...]) -> float:
    """Return the largest difference of a kernel's output and gradients; NaN when one is not a number."""
    queries, keys = (Sequences.of(some).to(device) for some in (VISION, lengths))
    generator = torch.Generator(device).manual_seed(0)
    q, k, v = (
        torch.randn(sum(s.lengths), HEADS, HEAD, generator=generator, device=device).to(dtype).requires_grad_()
        for s in (queries, keys, keys)
    )
    weights = torch.randn(q.shape, generator=generator, device=device)

    def results(attend: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
        output = attend(*inputs)
        return [output, *torch.autograd.grad((output.float() * weights).sum(), inputs)]

    found = results(lambda q, k, v: packed_attention(q, k, v, queries, keys, kernel), q, k, v)
    exact = results(
        lambda q, k, v: softmax_attention(q, k, v, queries.lengths, keys.lengths),
        *(x.detach().float().requires_grad_() for x in (q, k, v)),
    )
    each = [difference(*pair) for pair in zip(found, exact, strict=True)]
    return float("nan") if any(x != x for x in each) else max(each)


def softmax_attention(
    q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, queries: tuple[int, ...], keys: tuple[int, ...]
) -> Tensor:
    """Return softmax(q k / sqrt(D)) v sample by sample, as it is written."""
    parts = zip(q_NHD.split(queries), k_MHD.split(keys), v_MHD.split(keys), strict=True)
    return torch.cat([
        torch.einsum("hnm,mhd->nhd", (torch.einsum("nhd,mhd->hnm", q, k) * q.shape[-1] ** -0.5).softmax(-1), v)
        for q, k, v in parts
    ])  # fmt: skip


def _seconds(kernel: str, device: torch.device, dtype: torch.dtype) -> float:
    both = Sequences.of(TIMED).to(device)
    shape = (sum(TIMED), TIMED_HEADS, HEAD)
    q, k, v = (torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    above = torch.randn(shape, device=device, dtype=dtype)
    found = []
    for _ in range(WARM_UP + REPEATS):
        synchronize(device)
        started = time.perf_counter()
        torch.autograd.grad(packed_attention(q, k, v, both, both, kernel), (q, k, v), above)
        synchronize(device)
        found.append(time.perf_counter() - started)
    return statistics.median(found[WARM_UP:])


def synchronize(device: torch.device) -> None:
    """Wait for what a GPU was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _small_model(device: torch.device) -> tuple[Goku, Pack, Tensor]:
    torch.manual_seed(0)
    model = Goku(SMALL)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # nothing is zero, as it is at the start of training
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    latents = [torch.randn(16, t, h, w) for t, h, w in ((1, 8, 8), (5, 8, 12), (3, 16, 10))]
    packed = pack(latents, [torch.randn(m, SMALL.text_dim) for m in (5, 20, 1)])
    return model.to(device), packed.to(device), torch.tensor([0.1, 0.5, 0.9], device=device)


@torch.no_grad()
def _alone(model: Goku, packed: Pack, t_B: Tensor, exact: Tensor) -> Verdict:
    latents = unpack(packed.tokens, packed.shapes)
    texts = packed.text.split(packed.words.lengths)
    alone = [
        model(pack([latent.cpu()], [text.cpu()]).to(t_B.device), t[None])
        for latent, text, t in zip(latents, texts, t_B, strict=True)
    ]
    return Verdict("", difference(torch.cat(alone), exact), BOUND[torch.float32])


@torch.no_grad()
def _compiled(model: Goku, packed: Pack, t_B: Tensor, exact: Tensor) -> Verdict:
    for block in model.blocks:
        block.compile(dynamic=True)
    try:
        return Verdict("", difference(model(packed, t_B), exact), BOUND[torch.float32])
    finally:
        for block in model.blocks:
            block._compiled_call_impl = None


@torch.no_grad()
def _halved(model: Goku, packed: Pack, t_B: Tensor, exact: Tensor) -> Verdict:
    with torch.autocast(t_B.device.type, torch.bfloat16):
        return Verdict("", difference(model(packed, t_B), exact), BOUND[torch.bfloat16])
