"""Settings of `goku sample`, with their defaults."""

from dataclasses import dataclass

from goku_cli.errors import UsageError
from goku_cli.model.sampling.solvers import check_solver
from goku_cli.registry import nearest
from goku_cli.sizes import parse_size

FORMATS = ("mp4", "gif", "frames", "tensor")
"""An image is a PNG in all of them but `tensor`."""
DTYPES = ("auto", "float32", "bfloat16")
OFFLOADS = ("auto", "none", "parts", "blocks")


@dataclass(frozen=True)
class SampleSettings:
    """Everything that a sample's content depends on beside the checkpoint, the prompt and the seed."""

    steps: int = 25
    guidance: float = 3.0
    """Classifier-free guidance; 1 is none and costs half."""
    image_guidance: float = 0.0
    """By the first frame, apart from the text's; 0: the two are not told apart."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Times between which there is guidance; 0 is noise, 1 the clip."""
    zero_init: int = 0
    """First steps in which nothing moves."""
    cache: float = 0.0
    """Largest drift, relative to the latent, for which blocks may be skipped; 0 skips none."""
    frames: int = 0
    """4k + 1, 1 for an image; 0 takes what the checkpoint was trained on."""
    size: str = ""
    """HEIGHTxWIDTH; empty takes what the checkpoint was trained on."""
    fps: float = 0.0
    """Of the file; 0 takes what the checkpoint was trained on."""
    weights: str = "ema"
    solver: str = "euler"
    """Row of the table of solvers (model/sampling/solvers.py)."""
    tile: int = 0
    """Side in pixels of the squares that the VAE decodes in, to save memory; 0 decodes whole frames."""
    dtype: str = "auto"
    """Of the matrix products: float32, bfloat16, or auto, as the checkpoint was trained; for one that does not say,
    bfloat16 on a GPU."""
    format: str = "mp4"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError("--steps must be at least 1")
        if self.frames and self.frames % 4 != 1:
            below = max(self.frames - 1, 0) // 4 * 4 + 1
            raise UsageError(f"--frames must be 4k+1, not {self.frames}; give {below} or {below + 4}")
        if self.size:
            parse_size(self.size)
        if not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise UsageError("--guidance-interval takes two times, e.g. 0.1,0.9, between 0 (noise) and 1 (the clip)")
        if not 0 <= self.zero_init < self.steps:
            raise UsageError(f"--zero-init must be from 0 to below the {self.steps} steps")
        if min(self.cache, self.fps, self.image_guidance) < 0:
            raise UsageError("--cache, --fps and --image-guidance must be 0 or more")
        for name, value, known in (("format", self.format, FORMATS), ("dtype", self.dtype, DTYPES)):
            if value not in known:
                raise UsageError(f'unknown --{name} "{value}"{nearest(value, list(known))}; known: {", ".join(known)}')
        check_solver(self.solver)


@dataclass(frozen=True)
class Machine:
    """Where samples are drawn: nothing of it changes what they show."""

    ranks: int = 0
    """Processes; 0 is one per GPU, or one without."""
    sequence: int = 1
    """Ranks that draw every pack together, its tokens split over them."""
    offload: str = "auto"
    """What waits in the host's memory: none, the parts that are not at work, or all blocks but one."""

    def __post_init__(self) -> None:
        if self.ranks < 0 or self.sequence < 1:
            raise UsageError("--ranks must be 0 (one per GPU) or more, --sequence at least 1")
        if self.ranks and self.ranks % self.sequence:
            raise UsageError(f"--sequence {self.sequence} does not divide --ranks {self.ranks}")
        if self.offload not in OFFLOADS:
            raise UsageError(f'unknown --offload "{self.offload}"; known: {", ".join(OFFLOADS)}')
