"""Process topology: ranks, and the groups that share every pack (sequence parallelism)."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """One process among all. The default is a process alone."""

    rank: int = 0
    world: int = 1
    sequence: int = 1
    """Neighbors that share a pack; `world` is divisible by it."""
    group: Any = None
    """Their process group."""

    @classmethod
    def join(cls, sequence: int) -> "Ranks":
        """Return this process's place, once torch.distributed has begun."""
        rank, world = dist.get_rank(), dist.get_world_size()
        mine = None
        for first in range(0, world, sequence) if sequence > 1 else ():
            group = dist.new_group(list(range(first, first + sequence)))  # every rank takes part in making each
            mine = group if first <= rank < first + sequence else mine
        return cls(rank, world, sequence, mine)

    @property
    def packs(self) -> int:
        """How many packs are computed at once."""
        return self.world // self.sequence

    @property
    def pack(self) -> int:
        """Which of them this process works on."""
        return self.rank // self.sequence

    @property
    def sequence_rank(self) -> int:
        """The rank within the sequence-parallel group: which stretch of a pack's tokens."""
        return self.rank % self.sequence

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all ranks."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def any(self, here: bool) -> bool:
        """Return whether something is so on any rank."""
        return bool(self.total(torch.tensor(float(here), device=device())))

    def wait(self) -> None:
        """Return once all ranks are here."""
        if self.world > 1:
            dist.barrier()

    def tell(self, value: str) -> str:
        """Return what the first rank says."""
        said = [value]
        if self.world > 1:
            dist.broadcast_object_list(said, 0)
        return said[0]


def device() -> str:
    """Return what the ranks' collectives work on."""
    return "cuda" if torch.cuda.is_available() else "cpu"
