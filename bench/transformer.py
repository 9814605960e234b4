"""A training step (forward, backward, clipping, AdamW) of goku's packed transformer beside diffusers' Wan.

    python bench/transformer.py                        # 10m: goku, goku in Wan's form, Wan in buckets, ...
    python bench/transformer.py --size 100m --rounds 2
    python bench/transformer.py --device cuda --dtype bf16 --size 1.3b

Both have the same width, depth, heads and text length, and train on the same mixed set of images and videos (in
patches: 4 of 1x16x16, 2 of 1x24x16, one of 3x16x16, one of 4x24x16; 4,096 useful tokens), or with `--set clip` on one
clip of 97 frames of 288x512, 14,400 tokens (`long clip` is of 480x864, 40,500). Goku cuts the set into packs of at most
1,536 tokens, as its trainer does, so that both hold as much at once. Wan takes it in batches of equal shapes, or padded
to the largest. Cases take turns, each in a process of its own; the best step of all rounds counts. On a CPU one thread
is used and its CPU time is measured, which a busy neighbor does not change much; on a GPU the clock. `--compile`
compiles both models; `--recompute attention` keeps attention's outputs and blocks' inputs in goku and, as `full` does,
blocks' inputs alone in Wan.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from goku_cli.model.network.flops import step_flops
from goku_cli.model.network.packing import pack
from goku_cli.model.network.presets import ModelConfig, Recompute
from goku_cli.model.network.transformer import Goku
from goku_cli.train.data.batching import cut

CHANNELS, TEXT_WIDTH, TEXT_TOKENS = 16, 512, 128
DIMS = {
    "10m": {"heads": 4, "head": 64, "ffn": 1024, "layers": 8},
    "100m": {"heads": 12, "head": 64, "ffn": 3072, "layers": 10},
    "1.3b": {"heads": 12, "head": 128, "ffn": 8960, "layers": 30},
    "2b": {"heads": 28, "head": 64, "ffn": 7168, "layers": 28},
    "8b-layers": {"heads": 48, "head": 64, "ffn": 12288, "layers": 4},
}
SETS = {
    "mixed": [(1, 16, 16)] * 4 + [(1, 24, 16)] * 2 + [(3, 16, 16)] + [(4, 24, 16)],
    "clip": [(25, 18, 32)],
    "clip and images": [(25, 18, 32)] + [(1, 18, 32)] * 8 + [(9, 18, 32)],
    "long clip": [(25, 30, 54)],
}
CASES = ("goku", "goku in Wan's form", "goku in one pack", "wan in buckets", "wan padded")
MAX_TOKENS = 1536
"""Of a pack, as the trainer cuts them: the longest sample of the set alone, the others together."""
WAN_FORM = {"biases": True, "layer_norms": True, "shared_modulation": True, "text_mlp": True, "noise_time": True}


def goku_config(dims, wan_form):
    """Return goku's configuration of these numbers."""
    third = 2 * (dims["head"] // 6)
    return ModelConfig(
        layers=dims["layers"], dim=dims["heads"] * dims["head"], ffn_dim=dims["ffn"], heads=dims["heads"],
        rope_split=(dims["head"] - 2 * third, third, third), rope_theta=1e4, latent_channels=CHANNELS,
        text_dim=TEXT_WIDTH, **(WAN_FORM if wan_form else {}),
    )  # fmt: skip


def wan(dims):
    """Return diffusers' model of these numbers."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        num_attention_heads=dims["heads"], attention_head_dim=dims["head"], in_channels=CHANNELS,
        out_channels=CHANNELS, text_dim=TEXT_WIDTH, ffn_dim=dims["ffn"], num_layers=dims["layers"],
    )  # fmt: skip


def goku_step(model, device, samples, max_tokens):
    """Return a function that accumulates the gradients of one step, pack by pack."""
    packs = cut(range(len(samples)), [t * h * w for t, h, w in samples], max_tokens)
    useful = sum(t * h * w for t, h, w in samples)

    def gradients(cast):
        for members in packs:
            shapes = sorted(samples[i] for i in members)
            x_1 = [torch.randn(CHANNELS, t, 2 * h, 2 * w) for t, h, w in shapes]
            x_0 = [torch.randn_like(z) for z in x_1]
            t_B = torch.sigmoid(torch.randn(len(shapes)))
            texts = [torch.randn(TEXT_TOKENS, TEXT_WIDTH) for _ in shapes]
            x_t = pack([t * z + (1 - t) * e for z, e, t in zip(x_1, x_0, t_B, strict=True)], texts).to(device)
            target = pack([z - e for z, e in zip(x_1, x_0, strict=True)], texts).tokens.to(device)
            with cast():
                v = model(x_t, t_B.to(device))
            ((v.float() - target).square().sum() / (useful * 4 * CHANNELS)).backward()

    return gradients


def wan_step(model, device, samples, padded):
    """Return a function that accumulates the gradients of one step, batch by batch."""
    largest = tuple(max(shape[axis] for shape in samples) for axis in range(3))
    batches = [(largest, samples)] if padded else [(s, [s] * samples.count(s)) for s in dict.fromkeys(samples)]
    useful = sum(t * h * w for t, h, w in samples)

    def gradients(cast):
        for (t, h, w), members in batches:
            x_1 = torch.randn(len(members), CHANNELS, t, 2 * h, 2 * w, device=device)
            x_0 = torch.randn_like(x_1)
            u = torch.sigmoid(torch.randn(len(members), device=device))
            noisy = (1 - u).view(-1, 1, 1, 1, 1) * x_1 + u.view(-1, 1, 1, 1, 1) * x_0
            text = torch.randn(len(members), TEXT_TOKENS, TEXT_WIDTH, device=device)
            with cast():
                v = model(noisy, 1000 * u, text, return_dict=False)[0]
            error = (v.float() - (x_0 - x_1)).square()
            if padded:
                mask = torch.zeros_like(error[:, :1])
                for row, (a, b, c) in enumerate(members):
                    mask[row, :, :a, : 2 * b, : 2 * c] = 1
                error = error * mask
            (error.sum() / (useful * 4 * CHANNELS)).backward()

    return gradients


def measure(options):
    """Run one case and return its figures."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device, dims = torch.device(options.device), DIMS[options.size]
    ours = options.case.startswith("goku")
    model = (Goku(goku_config(dims, "Wan" in options.case)) if ours else wan(dims)).to(device).train()
    for parameter in model.parameters():  # zero gates would let gradients vanish, and their cost with them
        torch.nn.init.normal_(parameter, std=0.02)
    if ours:
        model.recompute_with(Recompute(options.recompute))
        model.attend_with(options.kernel)
    elif options.recompute != "none":
        model.enable_gradient_checkpointing()
    if options.compile:
        for block in model.blocks:
            block.compile(dynamic=True)
    samples = SETS[options.set]
    most = max(MAX_TOKENS, *(t * h * w for t, h, w in samples), 0)
    if ours:
        gradients = goku_step(model, device, samples, 0 if "one pack" in options.case else most)
    else:
        gradients = wan_step(model, device, samples, "padded" in options.case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")
    clock = time.process_time if device.type == "cpu" else time.perf_counter

    def cast():
        return torch.autocast(device.type, torch.bfloat16, enabled=options.dtype == "bf16")

    seconds = []
    for _ in range(options.steps + 1):
        synchronize(device)
        started = clock()
        optimizer.zero_grad(set_to_none=True)
        gradients(cast)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        synchronize(device)
        seconds.append(clock() - started)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 1024 * resource.getrusage(
        resource.RUSAGE_SELF).ru_maxrss  # fmt: skip
    parameters = sum(p.numel() for p in model.parameters())
    useful = sum(step_flops(goku_config(dims, True), t * h * w, TEXT_TOKENS) for t, h, w in samples)
    best = min(seconds[1:])
    return {
        "seconds": best, "peak_mib": peak / 2**20, "parameters_m": parameters / 1e6, "tflops": useful / best / 1e12,
    }  # fmt: skip


def synchronize(device):
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def main():
    """Run all cases in turns, or the one that is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=DIMS, default="10m")
    parser.add_argument("--set", choices=SETS, default="mixed")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--recompute", choices=("none", "attention", "full"), default="none")
    parser.add_argument("--kernel", default="auto")
    parser.add_argument("--case", choices=CASES)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options)))
        return
    best = {}
    for _ in range(options.rounds):
        for case in CASES:
            words = [sys.executable, __file__, *sys.argv[1:], "--case", case]
            figures = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
            if case not in best or figures["seconds"] < best[case]["seconds"]:
                best[case] = figures
    useful = sum(t * h * w for t, h, w in SETS[options.set])
    buckets = useful / best["wan in buckets"]["seconds"]
    padded = useful / best["wan padded"]["seconds"]
    for case, figures in best.items():
        rate = useful / figures["seconds"]
        print(
            f"{case:20} {figures['parameters_m']:7.1f} M  {figures['seconds']:7.3f} s/step  {rate:8.0f} tokens/s  "
            f"{figures['tflops']:6.3f} TFLOP/s  "
            f"{rate / buckets:5.2f} of buckets  {rate / padded:5.2f} of padded  {figures['peak_mib']:6.0f} MiB"
        )


if __name__ == "__main__":
    main()
