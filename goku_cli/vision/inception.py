"""Inception-v3 of December 2015, by which FID is defined, as torch-fidelity ported it. The only import of it.

Pictures are scaled to 299 x 299 as TensorFlow 1 did, and so OpenAI's evaluator does; torchmetrics takes another filter,
which gives other features.

Shapes: N pictures of H x W pixels.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from goku_cli.errors import GokuError
from goku_cli.publish import sha256
from goku_cli.vision.device import device
from goku_cli.weights import INCEPTION

SPATIAL_CHANNELS = 7
"""Of 192: what Nash et al. (2021) and OpenAI's evaluator keep of a layer of 17 x 17 places."""


class Inception:
    """What Inception-v3 makes of pictures, at three depths."""

    dims: Mapping[str, int] = {"pool": 2048, "spatial": SPATIAL_CHANNELS * 17 * 17, "logits": 1008}
    """Features by kind: `spatial` is `mixed_6/conv` of the TensorFlow graph, `logits` are without their bias."""
    implementation = "goku on Inception-v3 of torch-fidelity"
    license = "Apache-2.0"

    def __init__(self) -> None:
        path = INCEPTION.path()
        self.sha256 = sha256(path)
        try:
            self.net = _load(torch.load(path, map_location="cpu", weights_only=True)).to(device())
        except Exception as error:  # torch.load raises whatever the bytes make it raise
            raise GokuError(f"{path} holds no weights of Inception-v3; get them with: {INCEPTION.command.format(path)}"
                            ) from error  # fmt: skip
        self._spatial_NCHW = torch.empty(0)
        self.net.get_submodule("Mixed_6d.branch1x1").register_forward_hook(self._keep)

    def __call__(self, pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return the features (N, D) by kind of pictures (H, W, 3) uint8 RGB of one size, float32."""
        x_N3HW = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            pool_ND, logits_ND = self.net(x_N3HW.to(device()))
        found = {"pool": pool_ND, "spatial": self._spatial_NCHW.flatten(1), "logits": logits_ND}
        return {kind: features_ND.float().cpu().numpy() for kind, features_ND in found.items()}

    def _keep(self, _module: nn.Module, _inputs: object, output_NCHW: Tensor) -> None:
        self._spatial_NCHW = output_NCHW[:, :SPATIAL_CHANNELS].clone()


def _load(state: dict[str, Tensor]) -> nn.Module:
    # The class unpickles the file that it is given; so it is given one of our own making, of tensors alone.
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    kinds = ["2048", "logits_unbiased"]
    net: nn.Module = FeatureExtractorInceptionV3("inception", kinds, feature_extractor_weights_path=file)
    return net
