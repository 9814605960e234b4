"""What a forecast says of memory and operations is what is measured: of activations, and of real engines' states."""

import contextlib
import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from alive import Alive
from at_work import ranks_do
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from goku_cli.errors import GokuError, UsageError
from goku_cli.model.network.flops import forward_flops, recomputed_flops
from goku_cli.model.network.packing import Pack, Sequences, pack
from goku_cli.model.network.presets import ModelConfig, Recompute, model_config
from goku_cli.model.network.transformer import Goku
from goku_cli.train.distributed.ema import EmaWeights
from goku_cli.train.distributed.engine import make_engine
from goku_cli.train.distributed.optimizer import make_optimizer
from goku_cli.train.distributed.weight_shards import WeightShards
from goku_cli.train.forecast import memory
from goku_cli.train.forecast.accuracy import compared
from goku_cli.train.forecast.forecast import Machine, Plan
from goku_cli.train.forecast.gpus import GPUS, recognized
from goku_cli.train.forecast.suggestions import advice, check_fits
from goku_cli.train.forecast.workload import plan_of_sizes
from goku_cli.train.recipe import Flow, Lora, Parallel, Recipe, TrainConfig

CONFIG = model_config("tiny", latent_channels=4, text_dim=96)
RECIPE = Recipe("flow", size="2b", train=TrainConfig(1000, 2_000_000, 1e-4, max_tokens=45_000, bf16=True))


@contextlib.contextmanager
def autocast_of_a_gpu():
    """torch.autocast refuses "cuda" where no GPU is; its switch does not."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


def kept_on_a_gpu(config: ModelConfig, policy: str, samples: int, tokens: int, texts: int) -> int:
    """Return the bytes that a GPU holds after a forward pass: tensors without memory go the way of real ones."""
    cudnn = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)  # it asks the driver for its version

    def rows(count):
        where = torch.zeros(samples + 1, dtype=torch.int32), torch.zeros(samples * count, dtype=torch.int64)
        return Sequences((count,) * samples, *where, count, ((samples, count),))

    with FakeTensorMode(), torch.device("cuda"):
        model = Goku(config)
        model.recompute_with(Recompute(policy))
        model.attend_with("varlen")
        n, m = samples * tokens, samples * texts
        given = Pack(
            torch.empty(n, 4 * config.latent_channels), torch.zeros(n, 3, dtype=torch.int64), rows(tokens),
            torch.empty(m, config.text_dim), rows(texts), (),
        )  # fmt: skip
        t = torch.empty(samples)
        where = given.vision.sample, given.vision.cu_seqlens, given.words.sample, given.words.cu_seqlens
        with Alive([*model.parameters(), given.tokens, given.positions, given.text, t, *where]) as alive:
            with autocast_of_a_gpu():
                velocity = model(given, t)
            assert velocity.grad_fn is not None
            size = alive.now
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    return size


@pytest.mark.parametrize("policy", ["none", "attention", "full"])
@pytest.mark.parametrize(("samples", "tokens"), [(1, 3000), (12, 250)])
def test_activations_of_a_gpu_in_bfloat16(policy, samples, tokens):
    config = replace(model_config("2b", latent_channels=16, text_dim=2048), layers=4)
    train = replace(RECIPE.train, recompute=Recompute(policy))
    held = memory.Held(samples, samples * tokens, samples * 100)
    foretold = memory.activations(config, memory.count(config), replace(RECIPE, train=train), held)
    assert foretold == pytest.approx(kept_on_a_gpu(config, policy, samples, tokens, 100), rel=0.06)


@pytest.mark.parametrize("samples", [1, 3])
def test_activations_of_a_cpu_in_float32(samples):
    kept: dict[int, int] = {}
    model = Goku(CONFIG)
    for parameter in model.parameters():
        kept[parameter.untyped_storage()._cdata] = 0

    def keep(x):
        kept.setdefault(x.untyped_storage()._cdata, x.untyped_storage().nbytes())
        held.append(x)  # else its address could be given to another
        return x

    held: list[torch.Tensor] = []
    given = pack([torch.randn(4, 2, 32, 32)] * samples, [torch.randn(30, 96)] * samples)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model(given, torch.rand(samples))
    n = len(given.tokens)
    recipe = replace(RECIPE, train=replace(RECIPE.train, bf16=False))
    foretold = memory.activations(CONFIG, memory.count(CONFIG), recipe, memory.Held(samples, n, samples * 30))
    unfused = CONFIG.layers * 5 * 4 * n * CONFIG.dim  # a CPU keeps what lies within its five RMS norms, too
    assert foretold + unfused == pytest.approx(sum(kept.values()), rel=0.06)


@pytest.mark.parametrize("policy", ["none", "attention", "full"])
def test_the_most_that_a_backward_pass_holds(policy):
    model = Goku(CONFIG)
    model.recompute_with(Recompute(policy))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)  # zero gates would let gradients end early
        parameter.grad = torch.zeros_like(parameter)
    given, t = pack([torch.randn(4, 2, 64, 32)], [torch.randn(30, 96)]), torch.rand(1)
    gradients = [parameter.grad for parameter in model.parameters()]
    with Alive([*model.parameters(), *gradients, given.tokens, given.positions, given.text, t]) as alive:
        model(given, t).square().sum().backward()
    n = len(given.tokens)
    recipe = replace(RECIPE, train=replace(RECIPE.train, bf16=False, recompute=Recompute(policy)))
    counts, held = memory.count(CONFIG), memory.Held(1, n, 30)
    foretold = memory.activations(CONFIG, counts, recipe, held) + memory.gradient_bytes(CONFIG, recipe, held)
    unfused = (CONFIG.layers if policy == "none" else 1) * 5 * 4 * n * CONFIG.dim  # as above
    assert foretold + unfused == pytest.approx(alive.most, rel=0.15)


@pytest.mark.parametrize("bf16", [False, True])
def test_what_comes_from_other_ranks_is_held_once_more(bf16):
    """Where a sequence is split, attention has a copy of its tokens, in the kernel's precision."""
    train, held = replace(RECIPE.train, bf16=bf16, recompute=Recompute("full")), memory.Held(1, 700, 30)
    alone, shared = (replace(RECIPE, train=train, parallel=Parallel(sequence=n)) for n in (1, 2))
    more = memory.gradient_bytes(CONFIG, shared, held) - memory.gradient_bytes(CONFIG, alone, held)
    assert more == (2 if bf16 else 4) * 700 * CONFIG.dim


@pytest.mark.parametrize("bf16", [False, True])
def test_the_buffers_of_zero_are_those_of_deepspeeds_own_defaults(bf16):
    """A bucket of gradients for each type that they have; ZeRO 3 gathers weights, here fewer than its limit."""
    defaults = DeepSpeedZeroConfig()
    assert (defaults.reduce_bucket_size, defaults.max_live_parameters) == (memory.BUCKET, memory.LIVE)
    assert defaults.param_persistence_threshold == memory.PERSISTENT
    train, counts, nothing = replace(RECIPE.train, bf16=bf16), memory.count(CONFIG), memory.Held(1, 0, 0)
    recipes = [replace(RECIPE, train=train, parallel=Parallel(zero_stage=stage)) for stage in range(4)]
    without, one, two, three = (memory.workspace(CONFIG, counts, recipe, nothing) for recipe in recipes)
    assert without == 4 * counts.trained
    assert one == two == 5e8 * (4 + 4 * bf16)
    assert three == 5e8 * (4 + 2 * bf16) + 4 * counts.parameters


ENGINE = replace(CONFIG, layers=3, dim=384, ffn_dim=1536, heads=8)  # ZeRO 3 leaves smaller weights whole


def bytes_of(tensors):
    return sum({x.untyped_storage()._cdata: x.untyped_storage().nbytes() for x in tensors if x is not None}.values())


def gradients(engine, stage, parameters):
    if stage == 3:
        return [engine.optimizer.grad_partitions_flat_buffer]
    if stage == 2:
        return [x for found in engine.optimizer.averaged_gradients.values() for x in found]
    return [p.grad for p in parameters]


def states_of_engines(rank, folder):
    found = {}
    for stage in range(4):
        recipe = replace(RECIPE, parallel=Parallel(zero_stage=stage))
        recipe = replace(recipe, train=replace(recipe.train, bf16=False, ema=(0.9,), ema_lengths=(0.1,)))
        model = Goku(ENGINE)
        optimizer = make_optimizer(model, recipe.train)
        engine = make_engine(model, optimizer, recipe)
        fragments = WeightShards(engine, optimizer, stage, rank, 2)
        averages = EmaWeights(fragments, recipe.train)
        parameters = list(model.parameters())
        engine.set_gradient_accumulation_boundary(stage == 2)  # before the last pack of a step, gradients are held
        engine.backward(engine(pack([torch.randn(4, 1, 4, 4)], [torch.randn(5, 96)]), torch.rand(1)).square().sum())
        measured = {"gradients": bytes_of(gradients(engine, stage, parameters))}
        if stage != 2:
            engine.step()
            engine.set_gradient_accumulation_boundary(True)
            engine.backward(engine(pack([torch.randn(4, 1, 4, 4)], [torch.randn(5, 96)]), torch.rand(1)).square().sum())
        engine.step()
        own = [getattr(p, "ds_tensor", None) for p in parameters] if stage == 3 else []
        copies = [fragment.holder for fragment in fragments.list] if stage in (1, 2) else []
        moments = [x for state in optimizer.state.values() for x in state.values() if x.numel() > 1]
        measured |= {
            "weights": bytes_of([*parameters, *own]), "optimizer": bytes_of([*copies, *moments]),
            "averages": bytes_of(x for values in averages.values.values() for x in values),
        }  # fmt: skip
        found[stage] = [measured, memory.states(memory.count(ENGINE), recipe, 2)]
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found))


def test_states_are_those_of_real_engines(tmp_path):
    ranks_do(2, states_of_engines, tmp_path)
    for stage, (measured, foretold) in json.loads((tmp_path / "found.json").read_text()).items():
        assert foretold == pytest.approx(measured, rel=0.03), f"stage {stage}"


@pytest.mark.parametrize("policy", ["attention", "full"])
def test_operations_that_are_done_twice(policy):
    given = pack([torch.randn(4, 4, 16, 16)], [torch.randn(30, 96)])
    counted = {}
    for name in ("none", policy):
        model = Goku(CONFIG)
        model.recompute_with(Recompute(name))
        with FlopCounterMode(display=False) as counter:
            model(given, torch.rand(1)).sum().backward()
        counted[name] = counter.get_total_flops()
    foretold = recomputed_flops(CONFIG, 256, 30, Recompute(policy))
    assert foretold == pytest.approx(counted[policy] - counted["none"], rel=0.1)
    assert foretold < forward_flops(CONFIG, 256, 30)


def plan(gpus=64, gpu="h100", size="480x864", **changes) -> Plan:
    parallel = Parallel(**{k: changes.pop(k) for k in list(changes) if k in vars(Parallel())})
    recipe = replace(RECIPE, size=changes.pop("model", "2b"), train=replace(RECIPE.train, **changes), parallel=parallel)
    return plan_of_sizes(recipe, Machine(gpu, gpus, 0.4, 2.0), size, 97)


def test_what_a_million_samples_take_on_disk():
    recipe = replace(RECIPE, flow=Flow(image_share=0.5))
    image, video = 30 * 54, 30 * 54 * 25
    found = plan_of_sizes(recipe, Machine("h100", 64), "480x864", 97).forecast()
    tokens = 2 / (1 / image + 1 / video)  # of a sample, when images and videos have as many tokens
    assert found.latent_bytes == pytest.approx(tokens * 4 * 16 * 2 * 2)
    assert found.state_bytes == 256 * 2048 * 2
    assert found.rows()[-1][0] == "a million samples"


def test_sizes_are_the_papers():
    figures = plan(recompute=Recompute("full")).forecast().figures()
    assert figures["blocks"] == pytest.approx(2.005e9, rel=1e-3)  # of the public block with FLAN-T5-XL's width
    assert memory.count(model_config("8b", latent_channels=16, text_dim=2048)).blocks == pytest.approx(8.055e9, 1e-3)
    assert figures["flops_per_step_with_recompute"] == pytest.approx(4 / 3 * figures["flops_per_step"], rel=0.01)
    assert figures["step_seconds"] == figures["flops_per_step"] / (64 * 989.4e12 * 0.4)
    assert figures["dollars"] == pytest.approx(1000 * figures["step_seconds"] / 3600 * 64 * 2)
    assert figures["samples_per_step"] == pytest.approx(1e6 / 40_500 + 1e6 / 1620)


def test_eight_percent_of_a_gpu_stay_free():
    found = plan(gpu="a100-40gb", recompute=Recompute("full")).forecast()
    assert found.room == pytest.approx(0.92 * GPUS["a100-40gb"].memory)
    assert plan_of_sizes(RECIPE, Machine("", 1), "480x864", 97).forecast().room == float("inf")


def test_parts_move_with_what_parts_them():
    parts = {stage: plan(zero_stage=stage, recompute=Recompute("full")).forecast().memory for stage in range(4)}
    assert parts[1]["optimizer"] < parts[0]["optimizer"] / 40
    assert parts[2]["gradients"] < parts[1]["gradients"] / 40
    assert parts[3]["weights"] < parts[2]["weights"] / 40
    shared = plan(sequence=4, max_tokens=11_250, recompute=Recompute("full")).forecast()
    assert shared.memory["activations"] == pytest.approx(parts[1]["activations"] / 4, rel=0.1)
    away = plan(zero_stage=2, offload_optimizer=True).forecast()
    assert away.memory["optimizer"] == away.memory["averages"] == 0
    assert away.host_bytes == pytest.approx(5 * 4 * away.counts.parameters / 64)
    grouped = plan(zero_stage=3, shard_group=8).forecast().memory["weights"]
    assert grouped - parts[3]["weights"] == pytest.approx(4 * away.counts.parameters / 8)


def test_adapters_learn_beside_weights_that_do_not():
    whole = plan(recompute=Recompute("full"))
    adapted = replace(whole, recipe=replace(whole.recipe, init_from="somewhere", lora=Lora(rank=16)))
    before, after = whole.forecast(), adapted.forecast()
    assert after.counts.blocks == before.counts.blocks
    added = after.counts.parameters - before.counts.parameters
    # Of every layer: six times D to D, twice E to D (the text's k and v), and the two of the feed-forward network.
    assert after.counts.trained == added == 28 * 16 * (6 * 2 * 1792 + 2 * (2048 + 1792) + 2 * (1792 + 7168))
    assert after.memory["optimizer"] < before.memory["optimizer"] / 50
    assert after.memory["weights"] == pytest.approx(before.memory["weights"], rel=0.02)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, r'recompute = \{policy = "attention"\}'),
        ({"model": "8b", "recompute": Recompute("full")}, "zero_stage = 2"),
        ({"model": "8b"}, r'recompute = \{policy = "full"\}, zero_stage = 2'),
        ({"zero_stage": 3, "recompute": Recompute("full"), "max_tokens": 0, "tokens_per_step": 64 * 300_000},
         "sequence = [248] with max_tokens"),
        ({"gpus": 1, "recompute": Recompute("full"), "zero_stage": 2, "gpu": "a100-40gb"}, "offload_optimizer"),
        ({"gpus": 1, "model": "8b", "gpu": "rtx-3090"}, "more GPUs"),
        ({"gpus": 1, "model": "8b", "gpu": "rtx-3090", "zero_stage": 0}, "more GPUs"),
        ({"gpus": 1, "model": "8b", "gpu": "rtx-3090", "zero_stage": 0, "optimizer": "muon"}, "more GPUs"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_helps(asked, says):
    asked = plan(**asked)
    with pytest.raises(GokuError, match=says):
        check_fits(asked, asked.forecast())
    assert advice(asked).startswith(("set ", "nothing"))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (lambda: plan(sequence=3).forecast(), "sequence = 3 does not fit 64 ranks and 28 heads"),
        (lambda: plan(max_tokens=30_000).forecast(), "a sample has 40500 tokens, more than the 30000"),
        (lambda: plan(zero_stage=3, shard_group=7).forecast(), "shard_group = 7 does not divide 64"),
        (lambda: plan(gpu="h10"), 'unknown GPU "h10"'),
        (lambda: plan(gpus=0), "--gpus must be at least 1"),
        (lambda: plan(size="480"), "--size must be HEIGHTxWIDTH"),
        (lambda: plan_of_sizes(RECIPE, Machine("", 1), "480x864", 96), "--frames must be 4k"),
    ],
)
def test_plans_that_cannot_be(asked, says):
    with pytest.raises(UsageError, match=says):
        asked()


def test_a_pack_that_holds_the_longest_sample_and_no_more_will_do():
    exactly, roomier = (plan(max_tokens=n).forecast().memory["activations"] for n in (40_500, 40_600))
    assert exactly == pytest.approx(roomier, rel=0.01)
    with pytest.raises(UsageError, match="more than the 40499 of max_tokens"):
        plan(max_tokens=40_499).forecast()


def test_a_pack_of_images_is_counted_when_ranks_are_balanced_by_operations():
    """A token of an image costs a third of a clip's: a rank that has images alone has three times as many."""
    lengths = Counter({(1620, 256): 1.0}), Counter({(40_500, 256): 1.0})
    free = replace(plan(max_tokens=0, tokens_per_step=64 * 40_500), lengths=lengths)
    both, videos = free.forecast(), replace(free, lengths=(Counter(), lengths[1])).forecast()
    assert both.memory["activations"] > 1.5 * videos.memory["activations"]
    assert both.memory["text states"] > videos.memory["text states"]


def test_gpus_are_known_by_the_names_of_their_drivers():
    assert recognized("NVIDIA H100 80GB HBM3") == "h100"
    assert recognized("NVIDIA H200") == "h200"
    assert recognized("NVIDIA A100-SXM4-40GB") == "a100-40gb"
    assert recognized("NVIDIA GeForce RTX 4090") == "rtx-4090"
    assert not recognized("NVIDIA H100 PCIe")  # another clock, another peak
    assert not recognized("NVIDIA GeForce RTX 4090 Laptop GPU")
    assert len(GPUS) >= 7


def test_the_end_of_a_run_says_what_was_foretold(tmp_path):
    assert compared(tmp_path) == ""
    (tmp_path / "forecast.json").write_text(json.dumps({"step_seconds": 0.5, "mfu": 0.35, "memory_bytes": 2 * 2**30}))
    lines = [{"step": 1, "held_out_loss": 1.0}, {"step": 10, "steps_per_second": 4.0, "memory_bytes": 2**30}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = compared(tmp_path)
    assert "0.25 s a step where 0.5 s were predicted at an MFU of 35%" in told
    assert "1.0 GiB of a GPU where 2.0 GiB" in told
    (tmp_path / "forecast.json").write_text(json.dumps({"memory_bytes": 1}))  # without a GPU
    assert compared(tmp_path) == ""
