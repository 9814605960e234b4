"""Step caching: between two steps of a solver most of what the later blocks add hardly changes, and may be kept.

The first block is always computed. When what it adds differs, in every sample, from what it added at the last full
evaluation by less than a threshold, relative to its size, the other blocks are not run, and what they added then is
added again (the "first block cache" of ParaAttention; TeaCache, Liu et al. 2025, decides by the timestep's modulation).
A threshold says little about a picture; `sample/generate.py` finds one whose measured drift stays below a bound.

Shapes: N tokens of width D, in B samples, of a pack or of one rank's stretch of it.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from goku_cli.model.network.packing import Sequences


class StepCache:
    """What the blocks added at the last full evaluation of one pack."""

    def __init__(self, threshold: float, group: Any = None) -> None:
        """Skip below this relative change; the ranks of `group`, which share the pack, decide together."""
        self.threshold = threshold
        self.group = group
        self.evaluations = 0
        self.skipped = 0
        self._first_ND: Tensor | None = None
        self._rest_ND: Tensor | None = None

    def through(
        self, x_ND: Tensor, samples: Sequences, first: Callable[[Tensor], Tensor], rest: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return x after the first block and the rest of them, or what stands for the rest."""
        after_ND = first(x_ND)
        added_ND = after_ND - x_ND
        self.evaluations += 1
        if self._rest_ND is not None and self._change(added_ND, samples) < self.threshold:
            self.skipped += 1
            return after_ND + self._rest_ND
        out_ND = rest(after_ND)
        self._first_ND, self._rest_ND = added_ND, out_ND - after_ND
        return out_ND

    def _change(self, added_ND: Tensor, samples: Sequences) -> float:
        """Return the largest relative change of a sample."""
        assert self._first_ND is not None
        rows_2N = torch.stack([added_ND - self._first_ND, self._first_ND]).float().square().sum(-1)
        sums_2B = rows_2N.new_zeros(2, len(samples.lengths)).index_add_(1, samples.sample, rows_2N)
        largest = (sums_2B[0] / sums_2B[1].clamp(min=1e-30)).max().sqrt()
        if self.group is not None:
            dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.group)
        return float(largest)
