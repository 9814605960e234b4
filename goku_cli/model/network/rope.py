"""3D rotary position embedding (Su et al. 2021) on (time, height, width), as in the paper's section 3.2.

A head's dimensions are split over the three axes, e.g. 16 + 24 + 24 of 64; inside an axis, neighboring pairs
(x0, x1), (x2, x3), ... are rotated by position * theta^(-2i/d). Dot products of rotated queries and keys then
depend on relative positions only. Positions may be any real numbers: a model that learned H rows sees H' > H rows
as the same span when positions are multiplied by H / H' (position interpolation, Chen et al. 2023).

Shapes: N tokens, H heads, D head dimension.
"""

import torch
from torch import Tensor


def axis_angles(position_N: Tensor, dim: int, theta: float) -> Tensor:
    """Return the angles (N, dim / 2) of positions (N,) along one axis."""
    frequency = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=position_N.device) / dim)
    return position_N.double()[:, None] * frequency


def rope_table(
    positions_N3: Tensor,
    split: tuple[int, int, int],
    theta: float,
    dtype: torch.dtype = torch.float32,
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Return cosines and sines (N, 1, D / 2, 2) of the angles of positions (N, 3) in (time, height, width), times
    `scale`."""
    axes = enumerate(zip(split, scale, strict=True))
    angles = [axis_angles(positions_N3[:, axis] * factor, dim, theta) for axis, (dim, factor) in axes]
    table = torch.cat(angles, dim=1)[:, None, :]
    return torch.stack((table.cos(), table.sin()), dim=-1).to(dtype)


def rotate(x_NHD: Tensor, table: Tensor) -> Tensor:
    """Rotate every pair of (N, H, D) by its token's angles, in the table's precision; x keeps its own.

    A pair is a complex number and its rotation one product: on a CPU twenty times faster than four real ones, which
    a compiler fuses with their neighbors; it cannot do that with complex ones.
    """
    pairs = x_NHD.to(table.dtype).unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():
        even, odd = pairs.unbind(-1)
        cos, sin = table.unbind(-1)
        rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    else:
        rotated = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(table))
    return rotated.flatten(-2).to(x_NHD.dtype)
