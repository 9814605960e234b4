"""Sequence parallelism (DeepSpeed-Ulysses, Jacobs et al. 2023; paper section 5): the tokens of a pack lie on several
ranks, and around attention they change places with heads.

Every rank has its stretch of the pack's tokens, all heads of them. Before attention an all-to-all gives it all tokens
of some heads, and after it another one gives back its stretch. Everything else works on tokens alone. What does not
divide is handled: the last stretch is filled up with rows that count for nothing, and the first ranks take one head
more.

Shapes: N tokens of a whole pack, n of one rank, H heads, h of one rank, D head dimension.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from goku_cli.errors import UsageError
from goku_cli.model.network.packing import Pack, Sequences


@dataclass(frozen=True)
class Split:
    """How a pack lies on the ranks of a group."""

    group: Any
    """The torch process group."""
    rank: int
    """Within the group."""
    degree: int
    whole: Sequences
    """The samples in all N tokens."""
    stretch: int
    """n: tokens on every rank; the last ones' are filled up."""

    def to_heads(self, x_nHD: Tensor) -> Tensor:
        """Return all tokens of this rank's heads (N, h, D), of this rank's tokens of all heads."""
        counts = heads_per_rank(x_nHD.shape[1], self.degree)
        mine = counts[self.rank]
        sent = x_nHD.transpose(0, 1).contiguous()
        came: Tensor = Exchange.apply(sent, counts, [mine] * self.degree, self.group)
        tokens = came.unflatten(0, (self.degree, mine)).transpose(1, 2).flatten(0, 1)
        return tokens[: len(self.whole.sample)]

    def to_tokens(self, x_NhD: Tensor, heads: int) -> Tensor:
        """Return this rank's tokens of all heads (n, H, D): the inverse of `to_heads`."""
        counts = heads_per_rank(heads, self.degree)
        mine = counts[self.rank]
        filled = F.pad(x_NhD, (0, 0, 0, 0, 0, self.stretch * self.degree - len(x_NhD)))
        sent = filled.unflatten(0, (self.degree, self.stretch)).transpose(1, 2).flatten(0, 1).contiguous()
        came: Tensor = Exchange.apply(sent, [mine] * self.degree, counts, self.group)
        return came.transpose(0, 1)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Split":
        """Return the same with every tensor changed."""
        return replace(self, whole=self.whole.map(change))


class Exchange(torch.autograd.Function):
    """All-to-all over the first dimension; its gradient is the exchange the other way round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sent: list[int], came: list[int], group: Any) -> Tensor:  # type: ignore[override]
        ctx.sent, ctx.came, ctx.group = sent, came, group
        return _exchange(x, sent, came, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return _exchange(gradient.contiguous(), ctx.came, ctx.sent, ctx.group), None, None, None


def _exchange(x: Tensor, sent: list[int], came: list[int], group: Any) -> Tensor:
    output = x.new_empty((sum(came), *x.shape[1:]))
    dist.all_to_all_single(output, x, came, sent, group=group)
    return output


def heads_per_rank(heads: int, degree: int) -> list[int]:
    """Return how many heads each rank attends with: 28 over 8 ranks are 4, 4, 4, 4, 3, 3, 3, 3."""
    return [heads // degree + (rank < heads % degree) for rank in range(degree)]


def check_degree(degree: int, heads: int, ranks: int) -> None:
    """Refuse a degree with which some rank would have nothing to do.

    Raises:
        UsageError: with the degrees that these heads and ranks allow.
    """
    allowed = [d for d in range(1, min(heads, ranks) + 1) if ranks % d == 0]
    if degree not in allowed:
        raise UsageError(f"[parallel] sequence = {degree} does not fit {ranks} ranks and {heads} heads; take one of: "
                         f"{', '.join(map(str, allowed))}")  # fmt: skip


def split_pack(pack: Pack, group: Any, rank: int, degree: int) -> tuple[Pack, list[int], int]:
    """Return one rank's stretch of a pack, the samples that it has tokens of, and how many of its rows are true.

    The rows that fill up the last stretch belong to the last sample, and nobody reads what becomes of them.
    """
    total = len(pack.tokens)
    stretch = -(-total // degree)
    first, last = min(rank * stretch, total), min((rank + 1) * stretch, total)
    fill = stretch - (last - first)
    ends = torch.tensor(pack.vision.lengths).cumsum(0).tolist()
    lengths = [max(0, min(e, last) - max(e - n, first)) for e, n in zip(ends, pack.vision.lengths, strict=True)]
    lengths[-1] += fill
    present = [i for i, length in enumerate(lengths) if length]
    texts = pack.text.split(list(pack.words.lengths))

    def rows(x: Tensor) -> Tensor:
        return F.pad(x[first:last], (0, 0, 0, fill))

    mine = replace(
        pack, tokens=rows(pack.tokens), positions=rows(pack.positions),
        vision=Sequences.of([lengths[i] for i in present]), text=torch.cat([texts[i] for i in present]),
        words=Sequences.of([pack.words.lengths[i] for i in present]),
        labels=None if pack.labels is None else pack.labels[present],
        first_frames=None if pack.first_frames is None else rows(pack.first_frames),
        last_frames=None if pack.last_frames is None else rows(pack.last_frames),
        split=Split(group, rank, degree, pack.vision, stretch),
    )  # fmt: skip
    return mine, present, last - first


def true_lengths(lengths: Sequence[int], rows: int) -> list[int]:
    """Return the tokens that each sample of a stretch has, without those that fill it up to more than `rows`."""
    return [*lengths[:-1], lengths[-1] - (sum(lengths) - rows)]
