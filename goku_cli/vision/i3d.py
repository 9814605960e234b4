"""I3D (Carreira and Zisserman 2017) of Kinetics-400, by which FVD is measured, in the form that StyleGAN-V published.

TorchScript is a program, so the one file that is run is the one whose SHA-256 stands here. Projects that publish or
check the file (LatentSync's weights and others) agree on the digest. A form of them that is no program was not found.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch

from goku_cli.errors import GokuError
from goku_cli.publish import sha256
from goku_cli.vision.device import device
from goku_cli.weights import I3D

SHA256 = "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"


class VideoNet:
    """What I3D makes of clips, before its softmax."""

    dims = 400
    frames = 16
    implementation = "goku on I3D of StyleGAN-V"
    license = "Apache-2.0 (I3D); StyleGAN-V's conversion has no license of its own"

    def __init__(self) -> None:
        path = I3D.path()
        self.sha256 = sha256(path)
        if self.sha256 != SHA256:
            raise GokuError(f"{path} is not StyleGAN-V's i3d_torchscript.pt, the only program of weights that is run; "
                            f"get it with: {I3D.command.format(path)}"
                            )  # fmt: skip
        with warnings.catch_warnings():  # PyTorch would rather have another format, and the file has only this one
            warnings.simplefilter("ignore", FutureWarning)
            self.net = torch.jit.load(path, map_location=device()).eval()

    def __call__(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features (N, 400) of N clips (16, H, W, 3) uint8 RGB of one size; the net scales them to 224."""
        x_N3THW = torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float()
        with torch.inference_mode():
            rows_ND = self.net(x_N3THW.to(device()), rescale=True, resize=True, return_features=True)
        return np.asarray(rows_ND.float().cpu().numpy())
