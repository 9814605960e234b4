"""Every attention kernel that runs here against plain softmax, sample by sample."""

import inspect
import itertools
import sys
import types

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goku_cli.errors import UsageError
from goku_cli.model.network.attention import KERNELS, SHORT, _alike, _block_mask, packed_attention, resolve
from goku_cli.model.network.packing import Sequences

VISION, TEXT = (70, 140, 3, 3, 130), (2, 9, 5, 5, 1)


def plain(q, k, v, queries, keys):
    parts = zip(q.split(queries.lengths), k.split(keys.lengths), v.split(keys.lengths), strict=True)
    outputs = []
    for a, b, c in parts:
        weights = (torch.einsum("nhd,mhd->hnm", a, b) / a.shape[-1] ** 0.5).softmax(-1)
        outputs.append(torch.einsum("hnm,mhd->nhd", weights, c))
    return torch.cat(outputs)


def runs_here(name):
    if name == "sdpa":
        return True
    if name == "flex":  # forward alone, on a CPU
        return True
    return torch.cuda.is_available()


@pytest.mark.parametrize("keys", [VISION, TEXT], ids=["self", "cross"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_agree_with_softmax(kernel, keys):
    if not runs_here(kernel):
        pytest.skip(f"{kernel} needs a GPU")
    device = "cuda" if torch.cuda.is_available() and kernel != "sdpa" else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    if kernel != "flex" and device == "cuda":
        resolve(kernel, device, dtype)
    queries, keys = Sequences.of(VISION).to(device), Sequences.of(keys).to(device)
    q, k, v = (torch.randn(sum(s.lengths), 2, 16, device=device, dtype=dtype) for s in (queries, keys, keys))
    with torch.no_grad():
        found = packed_attention(q, k, v, queries, keys, kernel)
    expected = plain(q.float(), k.float(), v.float(), queries, keys)
    torch.testing.assert_close(found.float(), expected, atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=1e-2)


@pytest.mark.parametrize(
    "queries",
    [VISION, (127, 129), (128, 128), (129, 126, 1), (300,), (1,) * 260],
    ids=lambda n: f"{len(n)} from {n[0]}",
)
def test_a_block_of_the_flex_mask_is_there_when_a_sample_meets_itself_in_it(queries):
    """Also a sample of which a block has one token, its first or its last."""
    keys = tuple(3 + 2 * i for i in range(len(queries)))
    for lengths in (queries, keys):
        of_query, of_key = Sequences.of(queries), Sequences.of(lengths)
        same = (of_query.sample[:, None] == of_key.sample).float()
        blocks = torch.nn.functional.max_pool2d(same[None], 128, ceil_mode=True)[0]
        assert torch.equal(_block_mask(of_query, of_key).to_dense()[0, 0].float(), blocks)


def varlen_on_a_cpu(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k):
    """What a GPU's kernels make of where samples begin."""
    for rows, starts, longest in ((q, cu_seq_q, max_q), (k, cu_seq_k, max_k)):
        assert (starts.dtype, int(starts[0]), int(starts[-1])) == (torch.int32, 0, len(rows))
        assert longest == int(starts.diff().max())
    queries, keys = (Sequences.of(starts.diff().tolist()) for starts in (cu_seq_q, cu_seq_k))
    return plain(q, k, v, queries, keys)


def test_the_stand_in_takes_what_the_kernel_of_torch_takes():
    varlen = pytest.importorskip("torch.nn.attention.varlen").varlen_attn
    names = list(inspect.signature(varlen_on_a_cpu).parameters)
    assert [name[0] for name in list(inspect.signature(varlen).parameters)[:3]] == names[:3]
    assert list(inspect.signature(varlen).parameters)[3:7] == names[3:]


@pytest.mark.parametrize("keys", [VISION, TEXT], ids=["self", "cross"])
@pytest.mark.parametrize(
    ("kernel", "module", "function"),
    [
        ("flash-attn-3", "flash_attn_interface", lambda *given: (varlen_on_a_cpu(*given), "log-sum-exp")),
        ("flash-attn-2", "flash_attn", varlen_on_a_cpu),
        ("varlen", "torch.nn.attention.varlen", varlen_on_a_cpu),
    ],
    ids=["flash-attn-3", "flash-attn-2", "varlen"],
)
def test_variable_length_kernels_are_told_where_queries_and_keys_begin(monkeypatch, kernel, module, function, keys):
    stand_in = types.SimpleNamespace(flash_attn_varlen_func=function, varlen_attn=function)
    monkeypatch.setitem(sys.modules, module, stand_in)
    queries, keys = Sequences.of(VISION), Sequences.of(keys)
    q, k, v = (torch.randn(sum(s.lengths), 2, 16) for s in (queries, keys, keys))
    torch.testing.assert_close(packed_attention(q, k, v, queries, keys, kernel), plain(q, k, v, queries, keys))


@pytest.mark.parametrize("length", [SHORT, SHORT + 1], ids=["summed", "kernel"])
def test_compiled_attention_is_the_same(length):
    both = Sequences.of([length, length, 3])
    q, k, v = (torch.randn(sum(both.lengths), 2, 16, requires_grad=True) for _ in range(3))
    torch._dynamo.reset()
    compiled = torch.compile(packed_attention, backend="aot_eager")
    for found, expected in zip(*(gradients(f, q, k, v, both) for f in (compiled, packed_attention)), strict=True):
        torch.testing.assert_close(found, expected)


def gradients(attend, q, k, v, both):
    output = attend(q, k, v, both, both)
    return output, *torch.autograd.grad(output.square().sum(), (q, k, v))


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=12))
def test_neighbors_alike_in_both_are_one_call(lengths):
    queries, keys = (Sequences.of(one) for one in zip(*lengths, strict=True))
    found = [(n, m) for count, n, m in _alike(queries, keys) for _ in range(count)]
    assert found == lengths
    merged = Sequences.of(queries.lengths)
    assert list(_alike(merged, merged)) == [(len(list(run)), n, n) for n, run in itertools.groupby(merged.lengths)]


def test_bfloat16_on_a_cpu_keeps_its_dtype():
    both = Sequences.of([4, 4])
    q = torch.randn(8, 2, 16, dtype=torch.bfloat16)
    assert packed_attention(q, q, q, both, both).dtype == torch.bfloat16


def test_what_runs_is_resolved_by_device_and_dtype():
    assert resolve("auto", "cpu", torch.bfloat16) == "sdpa"
    assert resolve("auto", "cuda", torch.float32) == "sdpa"
    assert resolve("auto", "cuda", torch.bfloat16) in KERNELS
    assert resolve("auto", "cuda", torch.bfloat16) != "sdpa"
    with pytest.raises(UsageError, match="did you mean"):
        resolve("varlan", "cpu", torch.float32)
    with pytest.raises(UsageError, match="does not run here"):
        resolve("varlen", "cpu", torch.float32)
