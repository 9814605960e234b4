"""Rectified flow, as in the paper's section 3: t = 0 is noise, t = 1 is data.

    x_t = t * x_1 + (1 - t) * x_0,    v = dx_t / dt = x_1 - x_0,    x_0 ~ N(0, I)

The network predicts v from (x_t, t), or x_1, from which v = (x_1 - x_t) / (1 - t) follows; sampling integrates
dx/dt = v from 0 to 1. Much other code runs time the other way (1 = noise): a shift s of the noise level u = 1 - t,
u' = s u / (1 + (s - 1) u), becomes here t' = t / (t + s (1 - t)), which moves times towards noise for s > 1.
"""

import torch
from torch import Tensor

LEAST_NOISE = 0.05
"""Noise level 1 - t below which the velocity to predicted data is not divided by it any more: what the network errs
by would grow without bound."""


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """Return x_t on the straight line from noise x_0 to data x_1; t broadcasts against both."""
    return t * x_1 + (1 - t) * x_0


def velocity(x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return the target v = x_1 - x_0, constant along the line."""
    return x_1 - x_0


def velocity_to(x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Return the velocity (x_1 - x_t) / max(1 - t, LEAST_NOISE) that leads to predicted data, in float32 at least.

    t broadcasts against both (Li and He 2025, Back to Basics: Let Denoising Generative Models Denoise, their "v-loss").
    """
    exact = torch.promote_types(x_t.dtype, torch.float32)
    return (x_1.to(exact) - x_t.to(exact)) / (1 - t).clamp(min=LEAST_NOISE).to(exact)


def shift_time(t: Tensor, shift: Tensor | float) -> Tensor:
    """Move times towards noise by `shift` (1 = none), which broadcasts against t (SD3, Esser et al. 2024, eq. 23)."""
    return t / (t + shift * (1 - t))


def guide_apart(full: Tensor, image: Tensor, nothing: Tensor, text_guidance: float, image_guidance: float) -> Tensor:
    """Guidance by text and by the first frame apart (Brooks et al. 2023, InstructPix2Pix, eq. 3).

    Predictions with both, with the image alone, and with neither; equal strengths are guidance by both together.
    """
    return nothing + image_guidance * (image - nothing) + text_guidance * (full - image)


def guide(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022); 1 leaves the conditional prediction.

    The same on velocities, on noise and on DDPM's v: given x_t, each is an affine function of any other.
    """
    return unconditional + guidance * (conditional - unconditional)
