"""The transformer family: sizes, zero start, RoPE, class and first-frame conditions, recomputing, compiling."""

import sys
import types
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers_small import CONFIG, WAN, awake

from goku_cli.errors import UsageError
from goku_cli.model.network.packing import Sequences, pack, unpack
from goku_cli.model.network.presets import SIZES, ModelConfig, Recompute, model_config
from goku_cli.model.network.rope import rope_table, rotate
from goku_cli.model.network.transformer import Goku

SMALL = {"layers": 2, "dim": 32, "ffn_dim": 64, "heads": 2, "rope_split": (4, 6, 6), "rope_theta": 1e4}


def some_pack(dtype=torch.float64, **more):
    latents = [torch.randn(4, 2, 4, 4, dtype=dtype), torch.randn(4, 1, 2, 4, dtype=dtype)]
    return pack(latents, [torch.randn(3, 12, dtype=dtype), torch.randn(5, 12, dtype=dtype)], **more)


@pytest.mark.parametrize("options", [{}, {"image_condition": True}, WAN])
def test_output_is_zero_at_the_start(options):
    assert not Goku(replace(CONFIG, **options))(some_pack(torch.float32), torch.rand(2)).any()


@pytest.mark.parametrize(
    ("size", "text_dim", "billions"), [("1b", 2048, 0.876), ("2b", 2048, 2.005), ("8b", 2048, 8.055), ("1b", 0, 0.669)]
)
def test_block_parameters_are_the_papers(size, text_dim, billions):
    with torch.device("meta"):
        classes = 0 if text_dim else 1000
        model = Goku(model_config(size, latent_channels=16, text_dim=text_dim, classes=classes))
    assert sum(p.numel() for p in model.blocks.parameters()) / 1e9 == pytest.approx(billions, abs=5e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"heads": 3}, "do not divide"),
        ({"rope_split": (4, 4, 4)}, "sum to the head's width"),
        ({"rope_split": (5, 5, 6)}, "must be even"),
        ({"rope_split": (8, 8)}, "three numbers"),
        ({"rope_theta": 0.0}, "positive"),
        ({"layers": 0}, "at least 1"),
        ({"text_dim": 0}, "text_dim"),
        ({"text_dim": 0, "classes": 3, "pooled_text": True}, "pooled_text needs text_dim"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(change, says):
    with pytest.raises(UsageError, match=says):
        ModelConfig(**{**SMALL, "latent_channels": 4, "text_dim": 12, **change})


def test_positions_are_relative_until_they_are_told_as_well():
    """Three equal tokens in a row at three places: RoPE alone tells the middle one from the ends, not the ends."""
    latent = torch.randn(4, 1, 2, 1, dtype=torch.float64).expand(-1, -1, -1, 2).repeat(1, 1, 1, 3)
    text = torch.randn(3, 12, dtype=torch.float64)
    alike = []
    for told in (False, True):
        model = awake(replace(CONFIG, layers=1, absolute_positions=told))
        first, _, last = model(pack([latent], [text]), torch.rand(1, dtype=torch.float64))
        alike.append(torch.allclose(first, last))
    assert alike == [True, False]


def test_pooled_text_is_the_text_as_a_whole():
    """Without cross-attention's weights, only it tells two texts apart, and not the order of a text's rows."""
    model = awake(replace(CONFIG, pooled_text=True))
    for block in model.blocks:
        block.cross.out.weight.data.zero_()
    latent, t = torch.randn(4, 1, 2, 2, dtype=torch.float64), torch.rand(1, dtype=torch.float64)
    one, other = torch.randn(2, 3, 12, dtype=torch.float64)
    outputs = [model(pack([latent], [text]), t) for text in (one, one.flip(0), other)]
    torch.testing.assert_close(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


def test_a_condition_scales_shifts_and_gates_what_each_part_reads_and_adds():
    """Of samples of one token, where attention is its values; without text, and with a network that changes nothing."""
    block = awake().blocks[0]
    block.cross.out.weight.data.zero_()
    block.ffn = torch.nn.Identity()
    x, condition, text = (torch.randn(3, width, dtype=torch.float64) for width in (32, 32, 12))
    alone = Sequences.of([1, 1, 1])
    rope = rope_table(torch.zeros(3, 3), CONFIG.rope_split, 1e4, torch.float64)
    rows = block.modulation.project(F.silu(condition)).unflatten(1, (6, 32)).unbind(1)
    shift, scale, gate, shift_ffn, scale_ffn, gate_ffn = rows
    values = block.attention.v(F.layer_norm(x, (32,), eps=1e-6) * (1 + scale) + shift)
    attended = x + gate * block.attention.out(values)
    normed = F.rms_norm(attended, (32,), block.ffn_norm.weight, 1e-6)
    wanted = attended + gate_ffn * (normed * (1 + scale_ffn) + shift_ffn)
    torch.testing.assert_close(block(x, condition, text, alone, alone, rope), wanted)


def test_sizes_are_sound_and_unknown_ones_name_the_nearest():
    for size in SIZES:
        model_config(size, latent_channels=16, text_dim=8)
    with pytest.raises(UsageError, match="did you mean"):
        model_config("2bb", latent_channels=16, text_dim=8)


positions = st.tuples(*[st.integers(0, 50)] * 3)


@settings(max_examples=25, deadline=None)
@given(positions, positions, positions, st.sampled_from([(4, 6, 6), (16, 24, 24), (24, 24, 24)]))
def test_rope_products_depend_on_relative_positions(a, b, move, split):
    q, k = torch.randn(2, 1, 1, sum(split), dtype=torch.float64)

    def product(p, r):
        x = rotate(torch.cat([q, k]), rope_table(torch.tensor([p, r]), split, 1e4, torch.float64))
        return (x[0] * x[1]).sum()

    moved = product([x + m for x, m in zip(a, move, strict=True)], [x + m for x, m in zip(b, move, strict=True)])
    torch.testing.assert_close(product(a, b), moved, atol=1e-9, rtol=0)


def test_rope_interpolation_puts_more_rows_into_the_same_span():
    few = rope_table(torch.tensor([[3, 6, 9]]), (4, 6, 6), 1e4, torch.float64)
    many = rope_table(torch.tensor([[3, 12, 27]]), (4, 6, 6), 1e4, torch.float64, scale=(1.0, 0.5, 1 / 3))
    torch.testing.assert_close(few, many)


def test_an_unused_first_frame_leaves_text_to_video_as_it_was():
    """A model that learned T2V and gets the layer for first frames is the same function, to the last bit."""
    plain = awake()
    conditioned = awake(replace(CONFIG, image_condition=True))
    conditioned.load_state_dict(plain.state_dict(), strict=False)
    conditioned.reset_image_condition()
    with_frames = some_pack(first_frames=[torch.randn(4, 1, 4, 4, dtype=torch.float64), None])
    t = torch.rand(2, dtype=torch.float64)
    assert torch.equal(plain(with_frames, t), conditioned(with_frames, t))


def test_the_first_frame_reaches_every_frame():
    model = awake(replace(CONFIG, image_condition=True))
    frame = torch.randn(4, 1, 4, 4, dtype=torch.float64)
    t = torch.full((2,), 0.5, dtype=torch.float64)
    torch.manual_seed(1)
    with_frame = some_pack(first_frames=[frame, None])
    torch.manual_seed(1)
    without = some_pack(first_frames=[None, None])
    shapes = with_frame.shapes
    given, free = unpack(model(with_frame, t), shapes), unpack(model(without, t), shapes)
    assert (given[0] - free[0]).abs().amin(dim=(0, 2, 3)).min() > 0
    torch.testing.assert_close(given[1], free[1], atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="given frame"):
        some_pack(first_frames=[frame[:, :, :2], None])


def test_classes_condition_without_text():
    model = awake(replace(CONFIG, text_dim=0, classes=10))
    latents = [torch.randn(4, 1, 4, 4, dtype=torch.float64)] * 2
    nothing = [torch.zeros(0, 0, dtype=torch.float64)] * 2
    t = torch.full((2,), 0.3, dtype=torch.float64)
    first, second = unpack(model(pack(latents, nothing, labels=[3, 10]), t), [latents[0].shape] * 2)
    assert not torch.allclose(first, second)
    with pytest.raises(ValueError, match="labels"):
        model(pack(latents, nothing), t)


class Counted(TorchDispatchMode):
    """Counts forward calls of attention."""

    attention = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        self.attention += "scaled_dot_product" in name and "backward" not in name
        return func(*args, **(kwargs or {}))


def step(policy, layers=0):
    model = awake().train()
    model.recompute_with(Recompute(policy, layers))
    torch.manual_seed(3)
    with Counted() as counted:
        model(some_pack(), torch.rand(2, dtype=torch.float64)).square().sum().backward()
    return [p.grad for p in model.parameters()], counted.attention


def test_recomputing_changes_no_gradient_and_attention_is_done_once():
    exact, once = step("none")
    for policy, layers, calls in (("full", 0, 2 * once), ("attention", 0, once), ("full", 1, 1.5 * once)):
        gradients, counted = step(policy, layers)
        assert counted == calls
        for a, b in zip(exact, gradients, strict=True):
            torch.testing.assert_close(a, b, atol=0, rtol=0)
    with pytest.raises(UsageError, match="did you mean"):
        Recompute("atention")


@pytest.mark.parametrize("options", [{}, {"image_condition": True, **WAN}])
@pytest.mark.parametrize("policy", ["none", "full"])
def test_compiles_without_graph_breaks(options, policy):
    model = awake(replace(CONFIG, **options)).train()
    model.recompute_with(Recompute(policy))
    packed, t = some_pack(), torch.rand(2, dtype=torch.float64)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(packed, t), model(packed, t))


@pytest.mark.parametrize("kernel", ["flash-attn-3", "flash-attn-2", "varlen"])
def test_the_import_of_a_kernel_does_not_part_the_graph(monkeypatch, kernel):
    for module in ("flash_attn_interface", "flash_attn", "torch.nn.attention.varlen"):
        stand_in = types.ModuleType(module)
        stand_in.flash_attn_varlen_func = stand_in.varlen_attn = attends_to_itself
        monkeypatch.setitem(sys.modules, module, stand_in)
    model = awake()
    model.attend_with(kernel)
    torch._dynamo.reset()
    packed, t = some_pack(), torch.rand(2, dtype=torch.float64)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(packed, t), model(packed, t))


def attends_to_itself(q, _k, _v, *_lengths):
    return 2 * q


def test_compiled_blocks_are_recomputed_around_attention_too():
    gradients = []
    for policy in ("none", "attention"):
        model = awake().train()
        model.recompute_with(Recompute(policy))
        torch._dynamo.reset()
        for block in model.blocks:
            block.compile(backend="aot_eager")
        torch.manual_seed(3)
        with Counted() as counted:
            model(some_pack(), torch.rand(2, dtype=torch.float64)).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert counted.attention == step("none")[1]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_packs_of_other_numbers_of_samples_are_compiled_once():
    model = awake(replace(CONFIG, pooled_text=True)).train()
    graphs = torch._dynamo.testing.CompileCounter()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=graphs, dynamic=True)
    for images, clips in ((3, 2), (4, 3), (2, 5), (7, 4)):
        drawn = [torch.randn(4, 1, 2, 2)] * images + [torch.randn(4, 3, 2, 4)] * clips
        packed = pack(drawn, [torch.randn(5, CONFIG.text_dim)] * len(drawn))
        t = torch.rand(len(drawn))
        model.float()
        torch.testing.assert_close(compiled(packed, t), model(packed, t))
    assert graphs.frame_count == 1


def test_float32_follows_float64():
    packed, t = some_pack(), torch.rand(2, dtype=torch.float64)
    single = replace(packed, tokens=packed.tokens.float(), text=packed.text.float())
    found = awake(dtype=torch.float32)(single, t.float())
    torch.testing.assert_close(found.double(), awake()(packed, t), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("options", [{}, WAN])
def test_autocast_computes_conditions_in_float32_and_tokens_in_bfloat16(options):
    """As on a GPU, where autocast itself would run the norms in float32."""
    model = awake(replace(CONFIG, **options), torch.float32)
    packed, t = some_pack(torch.float32), torch.rand(2)
    exact = model(packed, t)
    seen = {}

    def see(name, module):
        module.register_forward_hook(lambda _module, _inputs, output: seen.update({name: output.dtype}))

    block = model.blocks[0]
    for name in ("attention_norm", "attention.q_norm", "cross_norm", "cross.k_norm", "ffn_norm", "ffn"):
        see(name, block.get_submodule(name))
    see("time_in", model.time_in)
    if not options:
        see("modulation.project", block.modulation.project)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(packed, t)
    conditions = {seen.pop(name) for name in ("time_in", "modulation.project") if name in seen}
    assert (conditions, set(seen.values())) == ({torch.float32}, {torch.bfloat16})
    assert ((found - exact).norm() / exact.norm()) < 0.05
