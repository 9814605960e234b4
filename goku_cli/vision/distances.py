"""Image distances: in pixels, and perceptual ones. The only module that imports torchmetrics.

As losses, `ssim` is 1 - structural similarity (Wang et al. 2004; beside L1 as in Zhao et al. 2017), which needs no
weights, and `lpips:FILE` is LPIPS (Zhang et al. 2018) on torchvision's AlexNet or VGG16, whose weights are FILE; its
linear layers come with torchmetrics.

Shapes: N pictures of H x W pixels.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from goku_cli.errors import GokuError
from goku_cli.weights import VGG16

BACKBONES = {11: "alex", 3: "vgg"}
"""By the width of the first filter."""


class Ssim(nn.Module):
    """1 - structural similarity, the mean over pictures."""

    def forward(self, restored_N3HW: Tensor, wanted_N3HW: Tensor) -> Tensor:
        """Return the distance of pictures in [-1, 1]: 0 for equal ones."""
        return 1 - ssim(restored_N3HW, wanted_N3HW)


class Lpips(nn.Module):
    """LPIPS, the mean over pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        # The public class would fetch its backbone from the web.
        from torchmetrics.functional.image.lpips import _LPIPS

        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            kind = BACKBONES[weights["features.0.weight"].shape[-1]]
            self.net = _LPIPS(net=kind, pnet_rand=True)  # type: ignore[arg-type]
            names = {name: f"features.{name.partition('.')[2]}" for name in self.net.net.state_dict()}
            self.net.net.load_state_dict({name: weights[theirs] for name, theirs in names.items()})
        except Exception as error:  # torch.load raises whatever the bytes make it raise
            raise GokuError(f"{path} holds no weights of torchvision's vgg16 or alexnet; get them with: "
                            f"{VGG16.command.format(path)}"
                            ) from error  # fmt: skip

    def forward(self, restored_N3HW: Tensor, wanted_N3HW: Tensor) -> Tensor:
        """Return the distance of pictures in [-1, 1]: 0 for equal ones."""
        distance: Tensor = self.net(restored_N3HW, wanted_N3HW)
        return distance.mean()


def ssim(restored_N3HW: Tensor, wanted_N3HW: Tensor) -> Tensor:
    """Return the mean structural similarity of pictures in [-1, 1]."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = structural_similarity_index_measure(restored_N3HW, wanted_N3HW, data_range=2.0)
    assert isinstance(found, Tensor)
    return found


def psnr(restored_N3HW: Tensor, wanted_N3HW: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of pictures in [-1, 1], in dB of their common mean square."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(restored_N3HW, wanted_N3HW, data_range=2.0)


def likeness(restored_NHW3: np.ndarray, wanted_NHW3: np.ndarray) -> tuple[float, float]:
    """Return PSNR in dB and mean structural similarity of uint8 RGB pictures; PSNR is infinite for equal ones."""
    restored, wanted = (
        torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float() / 127.5 - 1
        for x in (restored_NHW3, wanted_NHW3)
    )
    return float(psnr(restored, wanted)), float(ssim(restored, wanted))


def load_perceptual(name: str) -> nn.Module | None:
    """Return the distance that a recipe names, or None for "none".

    Raises:
        GokuError: the file of LPIPS holds other weights.
    """
    if name == "none":
        return None
    kind, _, path = name.partition(":")
    return Lpips(Path(path)) if kind == "lpips" else Ssim()
