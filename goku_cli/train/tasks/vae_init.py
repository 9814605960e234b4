"""The weights that a VAE of the Wan class begins its training with.

PyTorch's own lose the picture: its convolutions shrink what they are given, and Wan's normalization divides by the norm
over channels without subtracting a mean, so after some thirty layers most of what is left is one constant (measured on
frames of the shapes world: a third to a half of what the middle of the network carries differs between places), and the
training finds one gray. So a clip goes through a nearly linear network at first: the branches of the residual blocks
and of attention add nothing (as in Fixup, Zhang et al. 2019), what lies between them keeps the variance, convolutions
over time look at the newest frame only (an image fills it, so images and videos are alike), and the posterior is
narrow.

Shapes: O output and I input channels, T taps in time, H x W taps in space.
"""

import torch
from torch import Tensor, nn

SILENT = (".conv2", ".proj")
"""The last layer of a residual block's branch, and of attention's."""
LOG_VARIANCE = -6.0
"""Of the posterior at first: a deviation of 0.05 beside means of about 0.6. Noise as large as the means is learned to
be ignored, and with it the latent."""


@torch.no_grad()
def begin(vae: nn.Module) -> None:
    """Set the weights of diffusers' AutoencoderKLWan in place."""
    for name, layer in vae.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Conv3d):
            continue
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        if name.endswith("time_conv"):
            keep_frames(layer.weight, pairs=name.startswith("encoder"))
        elif not name.endswith(SILENT):
            newest = layer.weight[:, :, -1] if layer.weight.ndim == 5 else layer.weight
            nn.init.kaiming_normal_(newest, nonlinearity="linear")
    weight, bias = (vae.get_parameter(f"quant_conv.{name}") for name in ("weight", "bias"))
    weight[len(weight) // 2 :] = 0  # the half that gives log-variances
    bias[len(bias) // 2 :] = LOG_VARIANCE


def keep_frames(weight_OITHW: Tensor, *, pairs: bool) -> None:
    """Let each output channel be an input channel of the newest frame, or the mean of the newest pair's."""
    outputs, inputs = weight_OITHW.shape[:2]
    taps = 2 if pairs else 1
    for channel in range(outputs):  # the decoder has two outputs for each input: the frames that become of one
        weight_OITHW[channel, channel % inputs, -taps:] = 1 / taps
