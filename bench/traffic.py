"""Bytes that a compiled block reads and writes, forward and back, for each token and number of its width.

    python bench/traffic.py

What PyTorch's compiler counts for the kernels that it makes and calls, of one block 448 wide under bf16 autocast, with
8 samples of 512 tokens; products and attention included. Attention's CPU kernel wants float32, which costs 30 of them.
"""

import logging

import torch
from torch._inductor import compile_fx, metrics

from goku_cli.model.network.packing import pack
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import Goku

HEADS, HEAD, SAMPLES = 7, 64, 8


def main() -> None:
    """Print one figure."""
    torch._inductor.config.force_disable_caches = True  # what was compiled before is not counted again
    compile_fx.inductor_metrics_log.setLevel(logging.INFO)
    logging.getLogger().addHandler(logging.NullHandler())
    width = HEADS * HEAD
    model = Goku(ModelConfig(
        layers=1, dim=width, ffn_dim=4 * width, heads=HEADS, rope_split=(16, 24, 24), rope_theta=1e4,
        latent_channels=16, text_dim=512,
    )).train()  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    packed = pack([torch.randn(16, 8, 16, 16)] * SAMPLES, [torch.randn(64, 512)] * SAMPLES)
    model.blocks[0].compile(dynamic=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(packed, torch.rand(SAMPLES))
    output.float().square().mean().backward()
    print(f"{metrics.num_bytes_accessed / len(packed.tokens) / width:.0f} bytes x width a token")


if __name__ == "__main__":
    main()
