"""Moving averages of the weights, float32, each rank's of its own fragments: what is sampled and evaluated."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from goku_cli.model.weights import posthoc
from goku_cli.train.distributed.weight_shards import WeightShards
from goku_cli.train.recipe import TrainConfig

WARM = 10
"""Steps over which a young average forgets its beginning faster: the decay is at most step / (step + WARM)."""


class EmaWeights:
    """One average for every decay, and one for every length from which others are made afterwards."""

    def __init__(self, fragments: WeightShards, settings: TrainConfig) -> None:
        self._fragments = fragments
        self._shares: dict[str, Callable[[int], float]] = {
            "ema.safetensors" if i == 0 else f"ema-{decay:g}.safetensors": partial(_share, decay)
            for i, decay in enumerate(settings.ema)
        }
        for length in settings.ema_lengths:
            self._shares[f"length-{length:g}.safetensors"] = partial(posthoc.share, posthoc.exponent_of(length))
        self.values = {file: [x.clone() for x in fragments.values()] for file in self._shares}
        """By the file of a checkpoint that they go into."""

    def update(self, step: int) -> None:
        """Take in the weights after the `step`-th step (from 1)."""
        live = self._fragments.values()
        for file, average in self.values.items():
            if live:
                torch._foreach_lerp_(average, live, self._shares[file](step))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model compute with the first average, to be looked at and not trained, for a while."""
        live = self._fragments.values()
        kept = [x.clone() for x in live]
        for x, average in zip(live, self.values["ema.safetensors"], strict=True):
            x.copy_(average)
        self._fragments.publish()
        self._fragments.module.eval()
        try:
            yield
        finally:
            self._fragments.module.train()
            for x, value in zip(live, kept, strict=True):
                x.copy_(value)
            self._fragments.publish()


def _share(decay: float, step: int) -> float:
    return 1 - min(decay, step / (step + WARM))
