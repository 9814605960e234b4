"""This rank's shard of every weight: what is saved, averaged and restored, whatever the ZeRO stage.

ZeRO lays weights one after the other in flat tensors and parts those between the ranks, so a rank has a fragment of
some weights: stage 0 all of each, 1 and 2 what fell into its share of the optimizer, 3 its share of each. A fragment
is named by the weight and by where in it (flattened) it begins, so what one number of ranks saved, another can read.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

STEPS = "step"


def whole_shape(weight: Tensor) -> torch.Size:
    """Return the shape of a weight, also of one that ZeRO 3 has parted already."""
    shape: torch.Size = getattr(weight, "ds_shape", weight.shape)
    return shape


@dataclass(frozen=True)
class Fragment:
    """Elements `start` to `start + length` of a flattened weight."""

    name: str
    start: int
    length: int
    holder: Tensor
    """The float32 tensor that the optimizer changes, in which they lie."""
    offset: int
    """Where in the flattened holder."""
    mine: tuple[int, int]
    """The part (from, to) of the fragment that this rank saves; ranks that hold the same share the work."""

    def of(self, tensor: Tensor) -> Tensor:
        """Return this fragment (length,) of the holder, or of a tensor like it, as a view."""
        return tensor.detach().view(-1)[self.offset : self.offset + self.length]


class WeightShards:
    """All fragments of one rank, in the order of the model's weights."""

    def __init__(self, engine: Any, optimizer: torch.optim.Optimizer, stage: int, rank: int, world: int) -> None:
        self._engine = engine
        self._stage = stage
        self.optimizer = optimizer
        self.module: nn.Module = engine.module
        find = {0: _whole, 3: _of_stage_3}.get(stage, _of_optimizer_shard)
        named = [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]
        self.list = [f for name, p in named for f in find(engine.optimizer, name, p, rank, world) if f.length]

    def values(self) -> list[Tensor]:
        """Return the weights, float32, as views."""
        return [fragment.of(fragment.holder) for fragment in self.list]

    def states(self) -> dict[str, Tensor]:
        """Return the optimizer's state as views, by its name and the weight's: exp_avg/blocks.0.ffn.0.bias."""
        return {
            f"{key}/{fragment.name}": fragment.of(x)
            for fragment in self.list
            for key, x in self.optimizer.state.get(fragment.holder, {}).items()
            if key != STEPS
        }

    def steps(self) -> int:
        """Return how many steps the optimizer has made."""
        return max((int(state[STEPS]) for state in self.optimizer.state.values() if STEPS in state), default=0)

    def begin(self, names: Collection[str], steps: int) -> None:
        """Give the optimizer a state of these names (as in `states`), zero for now, as if it had made so many steps."""
        on_device = any(group.get("fused") for group in self.optimizer.param_groups)
        keys = sorted({name.partition("/")[0] for name in names})
        for fragment in self.list:
            holder, state = fragment.holder, self.optimizer.state[fragment.holder]
            for key in keys:
                if f"{key}/{fragment.name}" in names and key not in state:
                    state[key] = torch.zeros_like(holder)
            if "exp_avg" in state:  # AdamW counts its steps, Muon has no need to
                state[STEPS] = torch.tensor(float(steps), device=holder.device if on_device else "cpu")

    def publish(self) -> None:
        """Bring what was written into `values` to the weights that the model computes with, on every rank."""
        if self._stage in (1, 2):
            self._engine.optimizer.update_lp_params()
        if self._stage == 3:
            zero = self._engine.optimizer
            zero.checkpoint_event_prologue()
            for i in range(len(zero.fp16_groups)):
                zero._reassign_or_swap_out_partitioned_parameters(i)
            if zero.persistent_parameters:
                zero.persistent_parameters[0].partition(zero.persistent_parameters)
            zero.checkpoint_event_epilogue()


def _whole(_zero: Any, name: str, weight: Tensor, rank: int, world: int) -> Iterator[Fragment]:
    size = -(-weight.numel() // world)
    first = min(rank * size, weight.numel())
    yield Fragment(name, 0, weight.numel(), weight, 0, (first, min(first + size, weight.numel())))


def _of_optimizer_shard(zero: Any, name: str, weight: Any, _rank: int, _world: int) -> Iterator[Fragment]:
    found = weight._hp_mapping
    if found is not None:
        holder = zero.single_partition_of_fp32_groups[found.param_group_index]
        length = found.lp_fragment_address.numel
        yield Fragment(
            name, found.lp_fragment_address.start, length, holder, found.hp_fragment_address.start, (0, length)
        )


def _of_stage_3(zero: Any, name: str, weight: Any, _rank: int, _world: int) -> Iterator[Fragment]:
    group, offset, size = zero.grad_position[zero.get_param_id(weight)]
    start = zero._get_param_partition_rank(weight) * size
    length = max(0, min(size, weight.ds_numel - start))  # the last ranks hold padding
    yield Fragment(name, start, length, zero.fp32_partitioned_groups_flat[group], offset, (0, length))
