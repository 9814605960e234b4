"""Reconstruction metrics of a VAE on held-out clips: PSNR, SSIM and, with its weights, LPIPS.

Images and videos are told apart: a causal VAE may be good at one and bad at the other. A figure is the mean over
clips, and a clip's one over all of its frames. T frames of H x W pixels in [-1, 1].
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from goku_cli.vision.distances import Lpips, psnr, ssim


def figures(
    clips: Iterable[Tensor], restore: Callable[[Tensor], Tensor], perceptual: nn.Module | None
) -> dict[str, float]:
    """Return `psnr_images`, `ssim_videos` and so on, and `held_out_loss`, the mean L1 over all clips.

    Args:
        clips: (3, T, H, W) in [-1, 1].
        restore: gives the reconstruction of a clip, on the clip's device.
        perceptual: reported when it is LPIPS.
    """
    measures = {"psnr": psnr, "ssim": ssim} | ({"lpips": perceptual} if isinstance(perceptual, Lpips) else {})
    found: dict[str, list[float]] = {"held_out_loss": []}
    for clip in clips:
        restored = restore(clip).clamp(-1, 1)
        found["held_out_loss"].append(float((restored - clip).abs().mean()))
        kind = "videos" if clip.shape[1] > 1 else "images"
        for name, measure in measures.items():
            value = float(measure(restored.transpose(0, 1), clip.transpose(0, 1)))
            found.setdefault(f"{name}_{kind}", []).append(value)
    return {name: float(torch.tensor(values).mean()) for name, values in found.items()}
