"""What a training recipe says, as frozen dataclasses; an unknown key in the TOML is an error."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goku_cli.errors import UsageError
from goku_cli.model.objective import Objective
from goku_cli.model.presets import SIZES, ModelConfig, Recompute, model_values
from goku_cli.recipe import build, read_toml

KINDS = ("flow", "vae")
PERCEPTUAL = ("ssim", "none")
VGG16 = "curl -LO https://download.pytorch.org/models/vgg16-397923af.pth"


@dataclass(frozen=True)
class Optimization:
    """The loop: how long, how fast, how much per step."""

    steps: int
    tokens_per_step: int
    """Vision tokens of a step, over all ranks (for a VAE: latent positions)."""
    lr: float
    max_tokens: int = 0
    """Most vision tokens that a GPU holds at once; a rank's share of a step is run in so many packs. 0: no limit."""
    warmup: int = 100
    decay: float = 0.3
    """Share of the steps, at the end, over which the rate falls linearly to zero."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    bf16: bool = False
    """Matrix products in bfloat16 (autocast); weights and optimizer stay float32."""
    zero_stage: int = 1
    """0, 1 or 2. Stage 3 would part the weights that the moving average follows."""
    attention: str = "auto"
    """A kernel of model/attention.py by name; auto is the fastest that is there."""
    compile: bool = False
    """Compile the blocks (torch.compile)."""
    recompute: Recompute = field(default_factory=Recompute)
    save_every: int = 500
    log_every: int = 10
    eval_every: int = 250
    keep: int = 2
    """Checkpoints that stay on disk."""

    def __post_init__(self) -> None:
        if self.zero_stage not in (0, 1, 2):
            raise UsageError(f"zero_stage must be 0, 1 or 2, not {self.zero_stage}")
        if self.steps < 1 or self.tokens_per_step < 1:
            raise UsageError("steps and tokens_per_step must be at least 1")
        if self.max_tokens < 0:
            raise UsageError("max_tokens must be 0 (no limit) or more")


@dataclass(frozen=True)
class Flow:
    """What the transformer is shown."""

    text_dropout: float = 0.1
    image_share: float = 0.5
    """Share of the tokens that still images get, when there are both."""
    sample_posterior: bool = False
    """Draw latents from the VAE's posterior, anew each time, instead of taking its mean."""


@dataclass(frozen=True)
class Vae:
    """A VAE trained from scratch: its widths, what it sees, and its losses. L1 has the weight 1."""

    base_dim: int = 16
    latent_channels: int = 16
    size: str = "48x80"
    frames: int = 9
    fps: float = 8.0
    image_share: float = 0.5
    """Share of the steps that see images, when there are both."""
    kl: float = 1e-6
    perceptual: str = "ssim"
    """ssim, lpips:FILE (torchvision's weights of VGG16 or AlexNet) or none."""
    perceptual_weight: float = 0.1
    adversarial_weight: float = 0.0
    """Of a term that is already as strong as the reconstruction; 0 trains no discriminator."""
    adversarial_from: int = 0
    """First step of the discriminator."""
    discriminator_dim: int = 32

    def __post_init__(self) -> None:
        height, _, width = self.size.partition("x")
        if not (height.isdigit() and width.isdigit()) or not int(height) or int(height) % 16 or int(width) % 16:
            raise UsageError(f"[vae] size must be HEIGHTxWIDTH, both divisible by 16, e.g. 48x80, not {self.size}")
        if self.frames < 1 or self.frames % 4 != 1:
            raise UsageError(f"[vae] frames must be 4k+1 (1, 5, 9, ...), not {self.frames}")
        if self.discriminator_dim < 4 or self.discriminator_dim % 4:
            raise UsageError(f"[vae] discriminator_dim must be a multiple of 4, not {self.discriminator_dim}")
        kind, colon, file = self.perceptual.partition(":")
        if self.perceptual not in PERCEPTUAL and not (kind == "lpips" and colon):
            raise UsageError(f'[vae] perceptual must be {", ".join(PERCEPTUAL)} or lpips:FILE, not "{self.perceptual}"')
        if colon and not Path(file).is_file():
            raise UsageError(f"[vae] perceptual: no weights at {file}; get them with: {VGG16}")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name in ("kl", "perceptual_weight", "adversarial_weight", "adversarial_from"):
            if getattr(self, name) < 0:
                raise UsageError(f"[vae] {name} must be 0 or more, not {getattr(self, name)}")
        for name in ("base_dim", "latent_channels", "fps"):
            if getattr(self, name) <= 0:
                raise UsageError(f"[vae] {name} must be positive, not {getattr(self, name)}")
        if not 0 <= self.image_share <= 1:
            raise UsageError(f"[vae] image_share must lie between 0 and 1, not {self.image_share}")


@dataclass(frozen=True)
class Recipe:
    """One training run."""

    kind: str
    train: Optimization
    size: str = ""
    """Row of the table of model sizes (model/presets.py)."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of ModelConfig that differ from that row, or from the checkpoint of `init_from`."""
    init_from: str = ""
    """A checkpoint, or a run, whose weights this one begins with."""
    objective: Objective | None = None
    """What the transformer learns to predict; without it, what `init_from` learned, or the default."""
    flow: Flow = field(default_factory=Flow)
    vae: Vae = field(default_factory=Vae)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f'kind must be one of {", ".join(KINDS)}, not "{self.kind}"')
        if self.kind == "flow" and not self.size and not self.init_from:
            raise UsageError(f"give size (one of {', '.join(SIZES)}) or init_from, a checkpoint to begin with")


def load_recipe(path: Path) -> Recipe:
    """Read a training recipe.

    Raises:
        UsageError: missing file, unknown key, wrong type, or a model whose numbers do not go together.
    """
    recipe = build(Recipe, read_toml(path), where=str(path))
    if recipe.kind == "flow" and recipe.size:
        sized_model(recipe, latent_channels=1, text_dim=1)
    return recipe


def sized_model(recipe: Recipe, *, latent_channels: int, text_dim: int) -> ModelConfig:
    """Return the model of a recipe's size and `[model]` for a codec's channels and a text encoder's width.

    Raises:
        UsageError: an unknown size or key, a wrong type, or numbers that do not go together.
    """
    values = model_values(recipe.size, latent_channels=latent_channels, text_dim=text_dim, **recipe.model)
    return build(ModelConfig, {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}, where="[model]")
