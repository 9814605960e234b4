"""Moving averages of the weights, float32, each rank's of its own fragments: what is sampled and evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from goku_cli.train.fragments import Fragments

WARM = 10
"""Steps over which a young average forgets its beginning faster: the decay is at most step / (step + WARM)."""


class Averages:
    """One average for every decay."""

    def __init__(self, fragments: Fragments, decays: tuple[float, ...]) -> None:
        self._fragments = fragments
        self.decays = decays
        self.values: list[list[Tensor]] = [[x.clone() for x in fragments.values()] for _ in decays]

    def update(self, step: int) -> None:
        """Take in the weights after the `step`-th step (from 1)."""
        live = self._fragments.values()
        for decay, average in zip(self.decays, self.values, strict=True):
            if live:
                torch._foreach_lerp_(average, live, 1 - min(decay, step / (step + WARM)))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model compute with the first average for a while."""
        live = self._fragments.values()
        kept = [x.clone() for x in live]
        for x, average in zip(live, self.values[0], strict=True):
            x.copy_(average)
        self._fragments.publish()
        try:
            yield
        finally:
            for x, value in zip(live, kept, strict=True):
                x.copy_(value)
            self._fragments.publish()


def file_of(decay: float, decays: tuple[float, ...]) -> str:
    """Return the name of an average's file in a checkpoint: the first is ema.safetensors."""
    return "ema.safetensors" if decay == decays[0] else f"ema-{decay:g}.safetensors"
