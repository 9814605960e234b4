"""Timestep shift by resolution and number of frames: one law for training and for sampling.

A shift s multiplies the ratio of noise to signal: t' = t / (t + s (1 - t)), where t = 0 is noise. A larger latent
says the same thing more often, so more noise is needed to hide it:

    s = base * (S / tokens)^spatial * T^temporal, but not below `least`
                                                          S spatial tokens of a latent frame, T latent frames
"""

import math
from dataclasses import dataclass

from goku_cli.errors import UsageError


@dataclass(frozen=True)
class ShiftLaw:
    """The shift of a latent's size.

    In space it is SD3's law, sqrt(m / n) for m against n pixels (Esser et al. 2024, eq. 23), through its anchor of
    3.0 at 1024x1024, which is 4096 tokens. Frames are more alike than places, hence an exponent of their own: 1/4
    gives 3.96 to 81 frames of 480x832 (Wan samples them with 3 to 5) and 6.74 to 129 frames of 720x1280
    (HunyuanVideo: 7). Laws that are exponential in the number of all tokens (FLUX) explode at a video's count.
    Both exponents at 0 make the shift constant.

    Raises:
        UsageError: a base that is not positive, less than one token, an exponent that is not finite.
    """

    base: float = 3.0
    """The shift of one frame of `tokens` tokens; 1 leaves times as they are."""
    tokens: int = 4096
    """Spatial tokens of a latent frame at which the shift is `base`; 4096 are 1024x1024 pixels."""
    spatial: float = 0.5
    """Exponent of the spatial tokens."""
    temporal: float = 0.25
    """Exponent of the latent frames."""
    least: float = 1.0
    """Small sizes stop here: the law was fitted above 256x256, and would leave tiny latents without noise."""

    def __post_init__(self) -> None:
        if not (self.base > 0 and math.isfinite(self.base)):
            raise UsageError(f"shift.base must be a number above 0 (1 is no shift), not {self.base:g}")
        if not (self.least > 0 and math.isfinite(self.least)):
            raise UsageError(f"shift.least must be a number above 0 (1 is no shift), not {self.least:g}")
        if self.tokens < 1:
            raise UsageError(f"shift.tokens must be at least 1 (4096 are 1024x1024 pixels), not {self.tokens}")
        for name in ("spatial", "temporal"):
            if not math.isfinite(getattr(self, name)):
                raise UsageError(f"shift.{name} must be a finite number (0 is no influence)")

    def of(self, shape_CTHW: tuple[int, int, int, int]) -> float:
        """Return the shift of a latent of this shape, whose tokens are 1x2x2 patches."""
        _, frames, height, width = shape_CTHW
        spatial_tokens = (height // 2) * (width // 2)
        law = self.base * (spatial_tokens / self.tokens) ** self.spatial * frames**self.temporal
        return max(self.least, law)
