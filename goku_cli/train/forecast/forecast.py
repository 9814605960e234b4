"""Forecast of a training run before it starts: operations, memory, time and cost.

MFU is model FLOPs a second over the GPUs' peak, as in PaLM (Chowdhery et al. 2022): what is recomputed does not count.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from goku_cli.errors import UsageError
from goku_cli.model.network.flops import recomputed_flops, step_flops
from goku_cli.model.network.packing import PATCH
from goku_cli.model.network.presets import ModelConfig, Recompute
from goku_cli.model.network.ulysses import check_degree
from goku_cli.train.forecast import memory
from goku_cli.train.forecast.gpus import gpu_named
from goku_cli.train.recipe import Recipe, check_shard_group

Lengths = Mapping[tuple[int, int], float]
"""How often samples of so many vision and text tokens are seen."""
HALF = 2
"""Bytes of a number in float16."""
MARGIN = 0.08
"""Share of a GPU's memory that the driver, the ranks' communication and gaps between tensors take."""


@dataclass(frozen=True)
class Machine:
    """Where a run is to go on."""

    gpu: str
    """Row of hardware.GPUS; empty when it is none of them: then memory and time are not foretold."""
    gpus: int
    mfu: float = 0.35
    price: float = 0.0
    """Of one GPU for an hour."""

    def __post_init__(self) -> None:
        if self.gpus < 1 or not 0 < self.mfu <= 1 or self.price < 0:
            raise UsageError("--gpus must be at least 1, --mfu above 0 and at most 1, --price 0 or more")
        if self.gpu:
            gpu_named(self.gpu)


@dataclass(frozen=True)
class Kind:
    """Images, or videos, as a run sees them."""

    share: float
    """Of a step's tokens."""
    tokens: float
    """Vision tokens of one, in the mean."""
    flops: float
    """Of one, forward and backward, in the mean."""
    again: float
    """What is recomputed for one, in the mean."""
    text_tokens: float
    """As the model attends to them, filled up."""
    said_tokens: float
    """As they are stored."""
    longest: int

    @classmethod
    def of(cls, config: ModelConfig, recompute: Recompute, share: float, lengths: Lengths) -> "Kind":
        """Take means over samples."""

        def mean(of_pair: Callable[[int, int], float]) -> float:
            return sum(of_pair(*pair) * times for pair, times in lengths.items()) / sum(lengths.values())

        return cls(
            share,
            mean(lambda n, _: n),
            mean(lambda n, m: step_flops(config, n, m)),
            mean(lambda n, m: recomputed_flops(config, n, m, recompute)),
            mean(lambda _, m: max(m, config.text_rows)),
            mean(lambda _, m: m),
            max(n for n, _ in lengths),
        )


@dataclass(frozen=True)
class Forecast:
    """All numbers of a run; bytes are those of one GPU."""

    recipe: Recipe
    machine: Machine
    counts: memory.Counts
    samples: float
    """Of a step, as are the next two."""
    flops: float
    flops_again: float
    memory: dict[str, float]
    host_bytes: float
    """What offloading puts into the memory of the host, for each GPU."""
    latent_bytes: float
    """On disk, of a sample in the mean, as are the next: mean and variance in float16."""
    state_bytes: float
    """Of its text states, in float16; where a clip has two captions, of one."""

    @property
    def total_bytes(self) -> float:
        return sum(self.memory.values())

    @property
    def room(self) -> float:
        """Bytes of a GPU that a run can fill."""
        return gpu_named(self.machine.gpu).memory * (1 - MARGIN) if self.machine.gpu else float("inf")

    @property
    def step_seconds(self) -> float | None:
        machine = self.machine
        return self.flops / (machine.gpus * gpu_named(machine.gpu).flops * machine.mfu) if machine.gpu else None

    def figures(self) -> dict[str, Any]:
        """Return all of it as plain numbers."""
        settings = self.recipe.train
        told: dict[str, Any] = {
            **asdict(self.counts), "steps": settings.steps, "tokens_per_step": settings.tokens_per_step,
            "samples_per_step": self.samples, "flops_per_step": self.flops,
            "flops_per_step_with_recompute": self.flops + self.flops_again, "ranks": self.machine.gpus,
            "latent_bytes_per_sample": round(self.latent_bytes), "text_bytes_per_sample": round(self.state_bytes),
        }  # fmt: skip
        if self.step_seconds is not None:
            hours = settings.steps * self.step_seconds / 3600
            told |= {
                "memory": {name: round(size) for name, size in self.memory.items()},
                "memory_bytes": round(self.total_bytes), "memory_room_bytes": round(self.room),
                "host_bytes": round(self.host_bytes), "gpu": self.machine.gpu, "mfu": self.machine.mfu,
                "step_seconds": self.step_seconds, "days": hours / 24, "gpu_hours": hours * self.machine.gpus,
                "dollars": hours * self.machine.gpus * self.machine.price,
            }  # fmt: skip
        return told

    def rows(self) -> list[list[str]]:
        """Return what people are told of a run on a GPU that is known, line by line."""
        told, settings, machine, counts = self.figures(), self.recipe.train, self.machine, self.counts
        rows = [
            ["parameters", f"{_count(counts.parameters)}, {_count(counts.blocks)} in blocks; "
             + ("all trained" if counts.trained == counts.parameters else f"{_count(counts.trained)} trained")],
            ["a step", f"{settings.tokens_per_step:,} tokens, {self.samples:,.1f} samples"],
            ["operations of a step", f"{self.flops:.3g}; with what is recomputed {self.flops + self.flops_again:.3g}"],
            *([f"memory: {name}", gigabytes(size)] for name, size in self.memory.items()),
            ["memory of a GPU", f"{gigabytes(self.total_bytes)} of {gigabytes(self.room)}; {MARGIN:.0%} stay free"],
            ["time of a step", f"{told['step_seconds']:.3g} s on {machine.gpus} {machine.gpu}, MFU {machine.mfu:.0%}"],
            [f"{settings.steps:,} steps", f"{told['days']:.3g} days, {told['gpu_hours']:,.0f} GPU hours"
             + (f", ${told['dollars']:,.0f}" if machine.price else "")],
        ]  # fmt: skip
        rows.append(["a million samples", f"latents {self.latent_bytes / 1e6:,.2f} TB, text states "
                     f"{self.state_bytes / 1e6:,.2f} TB on disk (half in --text-dtype int8)"])  # fmt: skip
        if self.host_bytes:
            rows.append(["memory of the host", f"{gigabytes(self.host_bytes)} for each GPU"])
        return rows


def _count(numbers: int) -> str:
    return f"{numbers / 1e9:.3f} B" if numbers >= 1e9 else f"{numbers / 1e6:.2f} M"


def gigabytes(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


@dataclass(frozen=True)
class Plan:
    """A recipe, its model, its data and a machine: all that a forecast follows from."""

    recipe: Recipe
    config: ModelConfig
    lengths: tuple[Lengths, Lengths]
    """Of images, and of videos."""
    machine: Machine

    @property
    def longest(self) -> int:
        """Vision tokens of the longest sample that is trained on."""
        return max(kind.longest for kind in self._kinds())

    def forecast(self) -> Forecast:
        """Work it out.

        Raises:
            UsageError: heads or GPUs do not allow the recipe's sequence, a sample is too long for max_tokens, or
                shard_group does not divide the GPUs.
        """
        recipe, machine = self.recipe, self.machine
        check_degree(recipe.parallel.sequence, self.config.heads, machine.gpus)
        check_shard_group(recipe.parallel, machine.gpus)
        kinds = self._kinds()
        tokens = recipe.train.tokens_per_step
        samples = [tokens * kind.share / kind.tokens for kind in kinds]
        counts = memory.count(self.config, recipe.lora)
        flops = sum(n * kind.flops for n, kind in zip(samples, kinds, strict=True))
        parts = memory.states(counts, recipe, machine.gpus)
        packs = [self._of_pack(counts, held) for held in self._fullest(kinds, flops)]
        fullest = max(packs, key=lambda pack: sum(pack.values()))
        parts |= fullest
        everything = memory.states(counts, _without_offload(recipe), machine.gpus)
        host = sum(everything.values()) - sum(memory.states(counts, recipe, machine.gpus).values())
        again = sum(n * kind.again for n, kind in zip(samples, kinds, strict=True))
        tokens_seen, texts_seen = (
            sum(n * getattr(kind, name) for n, kind in zip(samples, kinds, strict=True)) / sum(samples)
            for name in ("tokens", "said_tokens")
        )
        latent = 2 * HALF * PATCH**2 * self.config.latent_channels * tokens_seen
        states = HALF * self.config.text_dim * texts_seen
        return Forecast(recipe, machine, counts, sum(samples), flops, again, parts, host, latent, states)

    def _kinds(self) -> list[Kind]:
        images, videos = self.lengths
        share = self.recipe.flow.image_share if images and videos else float(bool(images))
        shares = ((share, images), (1 - share, videos))
        recompute = self.recipe.train.recompute
        return [Kind.of(self.config, recompute, share, lengths) for share, lengths in shares if share and lengths]

    def _fullest(self, kinds: list[Kind], flops: float) -> Iterator[memory.Held]:
        """Return a pack of each kind alone: ranks are balanced by operations, so one may have images only."""
        settings, sequence = self.recipe.train, self.recipe.parallel.sequence
        packs = self.machine.gpus // sequence
        for kind in kinds:
            longest = kind.longest
            if settings.max_tokens and longest > settings.max_tokens * sequence:
                raise UsageError(f"a sample has {longest} tokens, more than the {settings.max_tokens * sequence} of "
                                 "max_tokens on the ranks that share it; raise that")  # fmt: skip
            tokens = min(flops / packs / kind.flops * kind.tokens, settings.tokens_per_step * kind.share)
            tokens = max(tokens, longest)
            if settings.max_tokens:
                tokens = min(tokens, settings.max_tokens * sequence)
            samples = max(1, -(-int(tokens) // int(kind.tokens)))
            mine = -(-int(tokens) // sequence)
            here = max(1, -(-samples // sequence))
            yield memory.Held(here if sequence == 1 else here + 1, mine, int(here * kind.text_tokens))

    def _of_pack(self, counts: memory.Counts, held: memory.Held) -> dict[str, float]:
        return {
            "activations": memory.activations(self.config, counts, self.recipe, held),
            "workspace": memory.workspace(self.config, counts, self.recipe, held),
            "text states": memory.text_bytes(self.config, held),
        }


def _without_offload(recipe: Recipe) -> Recipe:
    return replace(recipe, parallel=replace(recipe.parallel, offload_optimizer=False, offload_weights=False))
