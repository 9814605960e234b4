"""`goku doctor --gpu`: right kernels pass, wrong and broken ones are named, and the others go on."""

import pytest
import torch
from typer.testing import CliRunner

from goku_cli.checkup import kernels
from goku_cli.checkup.kernels import check_kernels, check_model, softmax_attention
from goku_cli.cli.app import app
from goku_cli.model.network.attention import KERNELS

CPU = torch.device("cpu")


@pytest.fixture
def installed(monkeypatch):
    """Every kernel counts as installed, and as one for this device."""
    monkeypatch.setattr(kernels, "installed", lambda _name: True)

    def put(name, attend):
        monkeypatch.setattr(kernels, "KERNELS", {name: attend, "sdpa": KERNELS["sdpa"]})
        monkeypatch.setitem(KERNELS, name, attend)
        monkeypatch.setattr(kernels, "CPU_TOO", ("sdpa", name))

    return put


def test_the_kernel_of_this_machine_is_right_and_timed(monkeypatch):
    monkeypatch.setattr(kernels, "TIMED", (64, 32))
    found = {verdict.name: verdict for verdict in check_kernels(CPU)}
    assert found["sdpa"].right
    assert found["sdpa"].seconds > 0
    assert found["varlen"].problem == "needs a GPU"


@pytest.mark.parametrize(
    ("attend", "says"),
    [
        (lambda q, k, v, queries, keys: 1.05 * KERNELS["sdpa"](q, k, v, queries, keys), ""),
        (lambda q, k, v, queries, keys: KERNELS["sdpa"](q, k.roll(1, 0), v, queries, keys), ""),
        (lambda q, k, v, queries, keys: KERNELS["sdpa"](q, k, v, queries, keys) * float("nan"), ""),
        (lambda *_: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
    ids=["too large", "other keys", "not a number", "raises"],
)
def test_a_wrong_kernel_is_named_and_the_others_go_on(installed, attend, says):
    installed("flash-attn-2", attend)
    wrong, right = check_kernels(CPU, timed=False)
    assert (wrong.name, wrong.right, wrong.problem) == ("flash-attn-2", False, says)
    assert (right.name, right.right) == ("sdpa", True)


def test_a_wrong_gradient_is_seen(installed):
    def attend(q, k, v, queries, keys):
        output = KERNELS["sdpa"](q, k, v, queries, keys)
        return output.detach() + 0.9 * (output - output.detach())

    installed("flash-attn-3", attend)
    assert not next(check_kernels(CPU, timed=False)).right


def test_the_reference_is_softmax_of_products():
    q, k, v = torch.randn(3, 5, 2, 8).unbind()
    scores = (q[:2].transpose(0, 1) @ k[:3].permute(1, 2, 0) / 8**0.5).softmax(-1)
    expected = (scores @ v[:3].transpose(0, 1)).transpose(0, 1)
    found = softmax_attention(q, k, v, (2, 3), (3, 2))
    torch.testing.assert_close(found[:2], expected)


def test_the_transformer_keeps_to_its_bounds():
    found = list(check_model(CPU))
    assert [verdict.name for verdict in found] == [
        "packed against one by one", "compiled blocks", "bfloat16 against float32",
    ]  # fmt: skip
    assert all(verdict.right for verdict in found), found


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_one_line():
    result = CliRunner().invoke(app, ["doctor", "--gpu"])
    assert result.exit_code == 1
    assert "no GPU that PyTorch can use" in str(result.exception)
