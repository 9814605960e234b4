"""Wan's VAE with random weights, both ways at 480 and 720 lines, whole and in tiles; a T5 encoder of XL's size."""

import time

import torch
from lines import arguments, attempt, peak_gib, report

from goku_cli.checkup.kernels import synchronize
from goku_cli.model.vae.diffusers_codec import DiffusersCodec, build

CHANNELS = 16
WAN = {
    "_class_name": "AutoencoderKLWan", "base_dim": 96, "z_dim": CHANNELS, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
    "attn_scales": [], "temperal_downsample": [False, True, True], "latents_mean": [0.0] * CHANNELS,
    "latents_std": [1.0] * CHANNELS,
}  # fmt: skip
XL = {"vocab_size": 32128, "d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_layers": 24, "num_heads": 32}
BATCH, ROWS = 64, 120


def main() -> None:
    """Report seconds for each clip, and captions a second."""
    options = arguments(__doc__)
    smoke, device = options.smoke, options.device
    half = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = build(WAN | ({"base_dim": 8, "num_res_blocks": 1} if smoke else {}))
    frames, sizes = (5, ((32, 48),)) if smoke else (17, ((480, 864), (720, 1280)))
    for height, width in sizes:
        for tile in (0, 32 if smoke else 256):
            case = f"VAE, {frames} frames of {height}x{width}, {f'tiles of {tile}' if tile else 'whole'}"
            with attempt(case), torch.no_grad():
                codec = DiffusersCodec(model, WAN).to(device)
                codec.model.to(half)
                tiled(codec.model, tile)
                video = torch.rand(3, frames, height, width, device=device, dtype=half) * 2 - 1
                codec.moments(video[:, :5])
                synchronize(device)
                started = time.perf_counter()
                z = codec.moments(video).mean_CTHW
                synchronize(device)
                encoded = time.perf_counter()
                codec.decode(z)
                synchronize(device)
                decoded = time.perf_counter()
                report(case, encode_seconds=encoded - started, decode_seconds=decoded - encoded, peak_gib=peak_gib())
    case = "T5 encoder of XL's size"
    with attempt(case), torch.no_grad():
        from transformers import T5Config, T5EncoderModel

        small = {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 512} if smoke else {}
        with torch.device(device):
            encoder = T5EncoderModel(T5Config(**XL | small, feed_forward_proj="gated-gelu")).to(half).eval()
        ids = torch.randint(0, 500, (BATCH, ROWS), device=device)
        encoder(input_ids=ids)
        synchronize(device)
        started = time.perf_counter()
        encoder(input_ids=ids)
        synchronize(device)
        report(case, captions_per_second=BATCH / (time.perf_counter() - started), peak_gib=peak_gib())


def tiled(model: torch.nn.Module, tile: int) -> None:
    """Let a VAE of diffusers work in squares of a side, or on whole frames."""
    if not tile:
        model.disable_tiling()
        return
    model.enable_tiling(
        tile_sample_min_height=tile, tile_sample_min_width=tile, tile_sample_stride_height=3 * tile // 4,
        tile_sample_stride_width=3 * tile // 4,
    )  # fmt: skip


if __name__ == "__main__":
    main()
