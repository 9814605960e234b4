"""Rectified flow, as in the paper's section 3: t = 0 is noise, t = 1 is data.

    x_t = t * x_1 + (1 - t) * x_0,    v = dx_t / dt = x_1 - x_0,    x_0 ~ N(0, I)

The network predicts v from (x_t, t); sampling integrates dx/dt = v from 0 to 1. Much other code runs time the
other way (1 = noise): a shift s of the noise level u = 1 - t, u' = s u / (1 + (s - 1) u), becomes here
t' = t / (t + s (1 - t)), which moves times towards noise for s > 1.
"""

from torch import Tensor


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """Return x_t on the straight line from noise x_0 to data x_1; t broadcasts against both."""
    return t * x_1 + (1 - t) * x_0


def velocity(x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return the target v = x_1 - x_0, constant along the line."""
    return x_1 - x_0


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
