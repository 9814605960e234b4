"""Offloading: the parts of a generator that are on the GPU at a time, when not all of it fits.

The text encoder, the transformer and the VAE work one after the other. `parts` brings each to the GPU for its turn;
`blocks` brings the transformer's blocks one at a time, which is slow, and lets a model be drawn from that is larger
than the GPU.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import nn

from goku_cli.errors import UsageError
from goku_cli.model.network.presets import ModelConfig

COPIES = 12
"""Tensors as wide as the model that a token is taken to need at once in a block."""


class Movable(Protocol):
    """What can be brought to a device."""

    def to(self, device: Any) -> Self: ...


Part = TypeVar("Part", bound=Movable)


def activation_bytes(config: ModelConfig, tokens: int) -> int:
    """Return what a forward pass over a pack of so many vision tokens needs beside the weights, in float32."""
    return tokens * 4 * (COPIES * config.dim + 2 * config.ffn_dim)


def choose(offload: str, *, text: int, transformer: int, vae: int, blocks: int, working: int, free: int) -> str:
    """Return none, parts or blocks: the first that fits into `free` bytes, or what was asked for.

    Args:
        offload: auto, or the answer.
        text: bytes of a part's weights; `blocks` of one layer's; `working` of activations.

    Raises:
        UsageError: not even blocks fits.
    """
    if offload != "auto":
        return offload
    needs = {
        "none": text + transformer + vae + working,
        "parts": max(text, transformer + working, vae + working),
        "blocks": max(text, 2 * blocks + working, vae + working),
    }
    for name, needed in needs.items():
        if needed <= free:
            return name
    raise UsageError(f"drawing needs {needs['blocks'] / 2**30:.1f} GiB of GPU memory even with --offload blocks, "
                     f"{free / 2**30:.1f} are free; draw fewer frames, a smaller --size, or with --tile")  # fmt: skip


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's weights."""
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


class Residence:
    """Brings parts to the device for their turn; on a CPU there is nothing to bring."""

    def __init__(self, device: torch.device, mode: str) -> None:
        self.device = device
        self.mode = mode

    def settle(self, part: Part) -> Part:
        """Bring a part to where it waits: the device when all of them fit there."""
        return part.to(self.device) if self.mode == "none" else part

    @contextlib.contextmanager
    def turn(self, part: Movable) -> Iterator[None]:
        """Keep a part on the device for as long as it works."""
        if self.mode == "none":
            yield
            return
        part.to(self.device)
        try:
            yield
        finally:
            part.to("cpu")

    @contextlib.contextmanager
    def transformer_turn(self, model: nn.Module) -> Iterator[None]:
        """The same for the transformer, whose blocks may come one at a time."""
        if self.mode != "blocks":
            with self.turn(model):
                yield
            return
        others = [child for name, child in model.named_children() if name != "blocks"]
        hooks = [hook for block in model.get_submodule("blocks").children() for hook in self._stream(block)]
        for child in others:
            child.to(self.device)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            model.to("cpu")

    def _stream(self, block: nn.Module) -> list[Any]:
        def come(module: nn.Module, _: Any) -> None:
            module.to(self.device)

        def go(module: nn.Module, *_: Any) -> None:
            module.to("cpu")

        return [block.register_forward_pre_hook(come), block.register_forward_hook(go)]
