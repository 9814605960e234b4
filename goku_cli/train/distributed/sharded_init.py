"""A model made part by part: drawn, or read from a checkpoint, and given away before the next part is made.

A rank of ZeRO 3 never holds all of it: an 8B model is 32 GB, and a node of eight ranks would need eight times that to
begin. The parts are the transformer's blocks and what lies around them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from goku_cli.errors import GokuError
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.network.transformer import Goku

LATER = ("condition_in.",)
"""Weights that a checkpoint may lack: an image-to-video model begins with one that knew text alone."""


def build_model(config: ModelConfig, seed: int, weights: Path | None, give_away: Callable[[nn.Module], None]) -> Goku:
    """Return a model whose weights are drawn from a seed or, where `weights` has them, are those of that file.

    `give_away` is called with every part when it has its weights.

    Raises:
        GokuError: the file's weights are not those of such a model.
    """
    torch.manual_seed(seed)
    with torch.device("meta"):
        model = Goku(config)
    given = _Given(weights, model) if weights else None
    for name, part in _parts(model):
        part.to_empty(device="cpu")
        model.reset(part)
        if given:
            given.fill(name, part, config)
        give_away(part)
    return model


def _parts(model: Goku) -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            yield from ((f"{name}.{i}", block) for i, block in enumerate(child))
        else:
            yield name, child


class _Given:
    """A file of weights that a model begins with."""

    def __init__(self, path: Path, model: Goku) -> None:
        self._file = safe_open(path, framework="pt")
        self._names = set(self._file.keys())
        names = {name for name, _ in model.named_parameters()}
        missing = {name for name in names - self._names if not name.startswith(LATER)}
        if strange := sorted((self._names - names) | missing):
            raise GokuError(f"the weights of init_from do not fit: {strange[:3]}")

    @torch.no_grad()
    def fill(self, prefix: str, part: nn.Module, config: ModelConfig) -> None:
        """Copy the weights of a part."""
        for name, weight in part.named_parameters(prefix=prefix):
            if name in self._names:
                weight.copy_(self._widened(name, self._file.get_tensor(name).float(), weight, config))

    @staticmethod
    def _widened(name: str, given: Tensor, weight: Tensor, config: ModelConfig) -> Tensor:
        """Return a first-frame layer with columns of zero for the last frame, of which it did not know."""
        if name == "condition_in.weight" and config.last_frame:
            given = torch.nn.functional.pad(given, (0, weight.shape[1] - given.shape[1]))
        if given.shape != weight.shape:
            raise GokuError(f"the weights of init_from do not fit: {name} is {list(given.shape)}")
        return given
