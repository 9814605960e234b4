"""Training recipes as frozen dataclasses; an unknown key in the TOML is an error."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goku_cli.errors import UsageError
from goku_cli.model.network.presets import SIZES, ModelConfig, Recompute, model_values
from goku_cli.model.objective.objective import Objective
from goku_cli.recipe import build, read_toml
from goku_cli.sizes import parse_size
from goku_cli.weights import VGG16

KINDS = ("flow", "vae")
OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("linear", "cosine", "constant")
PERCEPTUAL = ("ssim", "none")


@dataclass(frozen=True)
class TrainConfig:
    """The loop: how long, how fast, how much per step."""

    steps: int
    """Optimizer steps of the run."""
    tokens_per_step: int
    """Vision tokens of a step, over all ranks (for a VAE: latent positions)."""
    lr: float
    """Peak learning rate."""
    max_tokens: int = 0
    """Most vision tokens that a GPU holds at once; a rank's share of a step is run in so many packs. 0: no limit."""
    optimizer: str = "adamw"
    """adamw or, for the matrices of the blocks, muon; that needs zero_stage = 0, since it works on whole matrices."""
    schedule: str = "linear"
    """How the rate ends: linear or cosine, to zero, or constant."""
    warmup: int = 100
    """Steps over which the rate rises from 0."""
    decay: float = 0.3
    """Share of the steps, at the end, over which the rate falls."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Of AdamW."""
    eps: float = 1e-8
    """Of AdamW; where gradients are as small as this, it makes steps shorter."""
    clip: float = 1.0
    """Largest norm of the gradient; a longer one is shortened to it."""
    ema: tuple[float, ...] = (0.999,)
    """Decays of the moving averages of the weights; the first is what is sampled and evaluated."""
    ema_lengths: tuple[float, ...] = ()
    """Relative lengths of averages that grow with the run; out of their snapshots in the checkpoints that keep_every
    keeps, `goku convert RUN --ema-length` makes one of any length. Two will do: 0.05 and 0.1."""
    seed: int = 0
    """Of the weights, the order of the data, timesteps and noise."""
    bf16: bool = False
    """Matrix products in bfloat16 (autocast); weights and optimizer stay float32."""
    attention: str = "auto"
    """A kernel of model/network/attention.py by name; auto is the fastest that is there."""
    compile: bool = False
    """Compile the blocks (torch.compile)."""
    recompute: Recompute = field(default_factory=Recompute)
    """Activation checkpointing; see [train.recompute]."""
    save_every: int = 500
    """Steps between checkpoints."""
    log_every: int = 10
    """Steps between lines of the log."""
    eval_every: int = 250
    """Steps between evaluations of the held-out loss."""
    keep: int = 2
    """Newest checkpoints that stay on disk."""
    keep_every: int = 0
    """Those of steps that this divides stay as well; 0: none."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.tokens_per_step < 1:
            raise UsageError("steps and tokens_per_step must be at least 1")
        if self.eps <= 0:
            raise UsageError(f"eps must be above 0, not {self.eps:g}")
        if self.max_tokens < 0:
            raise UsageError("max_tokens must be 0 (no limit) or more")
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(f'optimizer must be {" or ".join(OPTIMIZERS)}, not "{self.optimizer}"')
        if self.schedule not in SCHEDULES:
            raise UsageError(f'schedule must be one of {", ".join(SCHEDULES)}, not "{self.schedule}"')
        if not self.ema or not all(0 <= decay < 1 for decay in self.ema) or len(set(self.ema)) < len(self.ema):
            raise UsageError(f"ema must list different decays, at least one, each from 0 to below 1, not {self.ema}")
        if not all(0.01 <= length <= 0.28 for length in self.ema_lengths) or self.keep_every < 0:
            raise UsageError("ema_lengths must lie between 0.01 and 0.28, keep_every be 0 (none) or more")
        if min(self.save_every, self.log_every, self.eval_every, self.keep) < 1:
            raise UsageError("save_every, log_every, eval_every and keep must be at least 1")


@dataclass(frozen=True)
class Parallel:
    """How the ranks share the work and the memory."""

    zero_stage: int = 1
    """DeepSpeed's ZeRO: 0 shares nothing, 1 the optimizer's state, 2 gradients too, 3 weights too."""
    sequence: int = 1
    """Ranks that share every pack, its tokens split over them (Ulysses)."""
    shard_group: int = 0
    """With ZeRO 3: ranks of one node that hold the weights a second time, so that they are not gathered between
    nodes (hpZ; the paper's HYBRID_SHARD). 0: none."""
    offload_optimizer: bool = False
    """Keep the optimizer's state in the memory of the host (ZeRO 1 to 3)."""
    offload_weights: bool = False
    """Keep the weights there too (ZeRO 3)."""
    readers: int = -1
    """Processes that prepare the next steps for each rank; 0: a thread of the rank does, -1: two with a GPU, else 0."""

    def __post_init__(self) -> None:
        if self.zero_stage not in range(4):
            raise UsageError(f"[parallel] zero_stage must be 0, 1, 2 or 3, not {self.zero_stage}")
        if self.sequence < 1 or self.shard_group < 0:
            raise UsageError("[parallel] sequence must be at least 1, shard_group 0 (none) or more")
        if (self.shard_group or self.offload_weights) and self.zero_stage < 3:
            raise UsageError("[parallel] shard_group and offload_weights need zero_stage = 3")
        if self.readers < -1:
            raise UsageError("[parallel] readers must be 0 (a thread) or more, or -1 (as it is best)")
        if self.offload_optimizer and not self.zero_stage:
            raise UsageError("[parallel] offload_optimizer needs zero_stage = 1, 2 or 3")


def check_shard_group(parallel: Parallel, ranks: int) -> None:
    """Refuse a group of ranks that hold the weights together, where it leaves some over.

    Raises:
        UsageError: with what would do.
    """
    group = parallel.shard_group
    if group and ranks % group:
        fitting = [n for n in range(2, ranks + 1) if ranks % n == 0]
        raise UsageError(f"[parallel] shard_group = {group} does not divide {ranks} GPUs; take one of: "
                         f"{', '.join(map(str, [0, *fitting]))}")  # fmt: skip


@dataclass(frozen=True)
class FaultTolerance:
    """What a run does when something goes wrong."""

    spike: float = 8.0
    """A step whose loss or gradient norm lies more than so many deviations above its running mean is skipped; 0:
    none is, but those that are not finite."""
    spike_after: int = 100
    """Steps that the mean is learned from before any is skipped."""
    rollback_after: int = 5
    """Skipped steps in a row after which the run goes back to its newest checkpoint, with the data after them."""
    restarts: int = 3
    """How often the ranks are started again, from the newest checkpoint, after one died or hung."""
    hang_seconds: float = 1800.0
    """Time without a step, a save or an evaluation after which the ranks are held to hang."""

    def __post_init__(self) -> None:
        if min(self.spike, self.spike_after, self.restarts) < 0 or min(self.rollback_after, self.hang_seconds) <= 0:
            raise UsageError("[faults] numbers must be 0 or more, rollback_after and hang_seconds positive")


@dataclass(frozen=True)
class LoggingConfig:
    """What there is to look at while a run goes on; it changes nothing of what is learned."""

    tensorboard: bool = False
    """Write the figures into RUN/tensorboard too."""
    wandb: str = ""
    """The project of Weights & Biases that gets them too."""
    preview_every: int = 0
    """Steps after which the averaged weights draw the prompts; 0: never."""
    prompts: tuple[str, ...] = ()
    """Prompts of the previews."""
    preview_steps: int = 20
    """Steps of the solver."""
    preview_guidance: float = 3.0
    """Classifier-free guidance of the previews."""

    def __post_init__(self) -> None:
        if self.preview_every < 0 or self.preview_steps < 1:
            raise UsageError("[watch] preview_every must be 0 (never) or more, preview_steps at least 1")
        if bool(self.preview_every) != bool(self.prompts):
            raise UsageError("[watch] previews need both preview_every and prompts")


@dataclass(frozen=True)
class Flow:
    """What the transformer is shown."""

    text_dropout: float = 0.1
    """Share of the samples whose text is replaced by the empty one, for classifier-free guidance."""
    image_share: float = 0.5
    """Share of the tokens that still images get, when there are both."""
    image_dropout: float = 0.0
    """Share of the clips whose first frame is not given to an image-to-video model, half of them without their text
    too, so that it can be guided by the frame."""
    last_frame_share: float = 0.5
    """Share of the clips whose last latent frame is given to a model with last_frame."""
    sample_posterior: bool = False
    """Draw latents from the VAE's posterior, anew each time, instead of taking its mean."""

    def __post_init__(self) -> None:
        if self.image_share not in (0, 1) and not 0.001 <= self.image_share <= 0.999:
            raise UsageError(
                f"[flow] image_share must be 0, 1 or between, from 0.001 to 0.999, not {self.image_share:g}"
            )
        for name in ("text_dropout", "image_dropout", "last_frame_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"[flow] {name} must be between 0 and 1, not {getattr(self, name):g}")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters instead of all weights; needs init_from."""

    rank: int = 0
    """Of the adapters; 0 trains all weights."""
    alpha: float = 16.0
    """Adapters are scaled by alpha / rank."""
    targets: tuple[str, ...] = ("q", "k", "v", "out", "ffn.0", "ffn.2")
    """Linear layers by the end of their names."""

    def __post_init__(self) -> None:
        if self.rank < 0 or self.alpha <= 0 or not self.targets:
            raise UsageError("[lora] rank must be 0 (none) or more, alpha positive, and targets must name layers")


@dataclass(frozen=True)
class Vae:
    """A VAE trained from scratch: its widths, what it sees, and its losses. The mean square has the weight 1."""

    base_dim: int = 16
    """Channels of the first layer; deeper ones have multiples of it."""
    latent_channels: int = 16
    """Channels of the latent."""
    size: str = "48x80"
    """HEIGHTxWIDTH of the training frames."""
    frames: int = 9
    """Frames of a training clip, 4k+1."""
    fps: float = 8.0
    """Frames per second of a training clip."""
    image_share: float = 0.5
    """Share of the steps that see images, when there are both."""
    kl: float = 1e-6
    """Weight of the KL divergence."""
    perceptual: str = "ssim"
    """ssim, lpips:FILE (torchvision's weights of VGG16 or AlexNet) or none."""
    perceptual_weight: float = 0.003
    """Weight of the perceptual loss."""
    adversarial_weight: float = 0.0
    """Of a term that is already as strong as the reconstruction; 0 trains no discriminator."""
    adversarial_from: int = 0
    """First step of the discriminator."""
    discriminator_dim: int = 32
    """Channels of the discriminator's first layer; a multiple of 4."""

    def __post_init__(self) -> None:
        parse_size(self.size, "[vae] size")
        if self.frames < 1 or self.frames % 4 != 1:
            raise UsageError(f"[vae] frames must be 4k+1 (1, 5, 9, ...), not {self.frames}")
        if self.discriminator_dim < 4 or self.discriminator_dim % 4:
            raise UsageError(f"[vae] discriminator_dim must be a multiple of 4, not {self.discriminator_dim}")
        kind, colon, file = self.perceptual.partition(":")
        if self.perceptual not in PERCEPTUAL and not (kind == "lpips" and colon):
            raise UsageError(f'[vae] perceptual must be {", ".join(PERCEPTUAL)} or lpips:FILE, not "{self.perceptual}"')
        if colon and not Path(file).is_file():
            raise UsageError(f"[vae] perceptual: no weights at {file}; get them with: {VGG16.command.format(file)}")
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
    """flow (the transformer) or vae."""
    train: TrainConfig
    size: str = ""
    """Row of the table of model sizes (model/network/presets.py)."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of ModelConfig that differ from that row, or from the checkpoint of `init_from`."""
    init_from: str = ""
    """A checkpoint, or a run, whose weights this one begins with."""
    objective: Objective | None = None
    """What the transformer learns to predict; without it, what `init_from` learned, or the default."""
    flow: Flow = field(default_factory=Flow)
    lora: Lora = field(default_factory=Lora)
    parallel: Parallel = field(default_factory=Parallel)
    faults: FaultTolerance = field(default_factory=FaultTolerance)
    watch: LoggingConfig = field(default_factory=LoggingConfig)
    vae: Vae = field(default_factory=Vae)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f'kind must be one of {", ".join(KINDS)}, not "{self.kind}"')
        if self.kind == "flow" and not self.size and not self.init_from:
            raise UsageError(f"give size (one of {', '.join(SIZES)}) or init_from, a checkpoint to begin with")
        if self.kind == "vae" and self.watch.prompts:
            raise UsageError("[watch] prompts are for a transformer; a VAE draws nothing from them")
        if self.train.optimizer == "muon" and self.parallel.zero_stage:
            raise UsageError("optimizer = muon works on whole matrices; set [parallel] zero_stage = 0")
        if self.train.optimizer == "muon" and self.kind == "vae":
            raise UsageError("optimizer = muon is for the transformer's matrices; a VAE has convolutions")
        if self.watch.prompts and self.model.get("classes"):
            raise UsageError("[watch] prompts are for a model that reads texts; draw classes with: goku sample")
        if self.lora.rank and not self.init_from:
            raise UsageError("[lora] needs init_from, a checkpoint to fine-tune")


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
    if recipe.model.get("text_dim", 0) or "latent_channels" in recipe.model:
        raise UsageError("[model] takes the widths of latents and texts from the data; text_dim = 0 reads no text")
    given = {"latent_channels": latent_channels, "text_dim": text_dim, **recipe.model}
    values = model_values(recipe.size, **given)
    return build(ModelConfig, {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}, where="[model]")
