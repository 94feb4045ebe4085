"""Exchange between the processes of a group about one pair matrix.

Rank r owns n_r rows and m_r columns; N and M are their sums. Columns are numbered in the order of
ranks. Collectives are entered by all ranks in the same order, in the backward pass too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, distributed

from tauten.pairwise.once import apply_once, first_only
from tauten.pairwise.sums import Along, Sent, Sums

# torch 2.13 renames them
_all_gather = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
_reduce_scatter = (
    getattr(distributed, "reduce_scatter_single", None) or distributed.reduce_scatter_tensor
)


#: columns whose gradients are sent at once; on a GPU a process's columns are not cut
PIECE = 1024


def gather_objects(value: Any) -> list[Any]:
    """Return the values of all processes, in order; its own alone where there is one process."""
    if not several_processes():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


#: () whether there is a group of processes, perhaps of one
grouped: Callable[[], bool] = getattr(distributed, "is_initialized", bool)


def several_processes() -> bool:
    """Return whether this process is one of a group."""
    return grouped() and distributed.get_world_size() > 1


class Ranks:
    """The processes of the default group and how many rows and columns each has.

    Args:
        rows: number of rows of this process.
        cols: number of columns of this process.
        device: where collectives run.
    """

    def __init__(self, rows: int, cols: int, device: torch.device) -> None:
        self.size, self.rank = distributed.get_world_size(), distributed.get_rank()
        self.device = device
        counts = torch.tensor([[rows, cols]], device=device)
        sizes = torch.empty(self.size, 2, dtype=counts.dtype, device=device)
        _all_gather(sizes, counts)
        self.rows: list[int] = sizes[:, 0].tolist()
        self.cols: list[int] = sizes[:, 1].tolist()

    @property
    def first(self) -> int:
        """The number of this process's first column."""
        return sum(self.cols[: self.rank])

    @property
    def own(self) -> slice:
        """The columns of this process."""
        return slice(self.first, self.first + self.cols[self.rank])

    def gather(self, shard: Tensor, counts: list[int] | None = None) -> Tensor:
        """Gather (M, ...) from (m_r, ...) of each process; ``counts`` if not columns are meant."""
        counts = self.cols if counts is None else counts
        if distributed.get_backend() == "gloo":
            return self._exchange(shard.contiguous(), counts)
        most = max(counts)
        if shard.shape[0] < most:
            padding = shard.new_zeros(most - shard.shape[0], *shard.shape[1:])
            shard = torch.cat([shard, padding])
        whole = shard.new_empty(self.size * most, *shard.shape[1:])
        _all_gather(whole, shard.contiguous())
        if min(counts) == most:
            return whole
        return torch.cat([part[:n] for part, n in zip(whole.split(most), counts, strict=True)])

    def _exchange(self, shard: Tensor, counts: list[int]) -> Tensor:
        """Gather straight into the result; gloo's own function holds everything twice."""
        whole = shard.new_empty(sum(counts), *shard.shape[1:])
        parts = whole.split(counts)
        parts[self.rank].copy_(shard)
        works = []
        for distance in range(1, self.size):
            works += self.swap(shard, parts[(self.rank - distance) % self.size], distance)
        for work in works:
            work.wait()
        return whole

    def scatter_sum(self, whole: Tensor) -> Tensor:
        """Return (m_r, ...) this process's part of the sum over processes of (M, ...).

        gloo's reduce-scatter moves twice the bytes of the exchange below.
        """
        n = self.cols[self.rank]
        if min(self.cols) == max(self.cols) and distributed.get_backend() != "gloo":
            shard = whole.new_empty(n, *whole.shape[1:])
            _reduce_scatter(shard, whole.contiguous())
            return shard
        parts = whole.new_empty(self.size * n, *whole.shape[1:])
        distributed.all_to_all_single(parts, whole.contiguous(), [n] * self.size, self.cols)
        return parts.view(self.size, n, *whole.shape[1:]).sum(0)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum over processes, in place."""
        distributed.all_reduce(tensor)
        return tensor

    def max_(self, tensor: Tensor) -> Tensor:
        """Take the maximum over processes, in place."""
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return tensor

    def arrivals(self, shard: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield every process's block (m, d), ours first, all others sent at the start."""
        owners = [(self.rank - distance) % self.size for distance in range(1, self.size)]
        if distributed.get_backend() != "gloo":
            whole = self.gather(shard)
            yield self.rank, shard
            for owner in owners:
                yield owner, whole[self.columns_of(owner)]
            return
        shard = shard.contiguous()
        coming = [self._blank(owner, shard) for owner in owners]
        sent = [self.swap(shard, block, at + 1) for at, block in enumerate(coming)]
        yield self.rank, shard
        for owner, block, works in zip(owners, coming, sent, strict=True):
            for work in works:
                work.wait()
            yield owner, block

    def around(self, shard: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield every process's block (m, d) in turn, ours first, the next on its way meanwhile."""
        block, owner = shard.contiguous(), self.rank
        for hop in range(self.size):
            coming, after = None, (owner - 1) % self.size
            if hop < self.size - 1:
                coming = self._blank(after, shard)
                sent = self.swap(block, coming)
            yield owner, block
            if coming is not None:
                for work in sent:
                    work.wait()
                block, owner = coming, after

    def sums_along(self, like: Tensor) -> Sums:
        """Return sums that travel with the blocks of :meth:`around` and end at their owners.

        Args:
            like: (0, d) a tensor like the blocks.
        """
        return Along(self, like)

    def sums_sent(self, like: Tensor) -> Sums:
        """Return sums whose parts are sent to their owners: ours first, then the next processes'.

        Args:
            like: (0, d) a tensor like the blocks.
        """
        return Sent(self, like)

    def pieces(self, owner: int) -> list[slice]:
        """Cut the columns of a process into as many pieces as every process has."""
        count = max(1, -(-max(self.cols) // PIECE)) if self.device.type == "cpu" else 1
        edges = [self.cols[owner] * part // count for part in range(count + 1)]
        return [slice(edges[part], edges[part + 1]) for part in range(count)]

    def _blank(self, owner: int, like: Tensor) -> Tensor:
        return like.new_empty(self.cols[owner], *like.shape[1:])

    def columns_of(self, owner: int) -> slice:
        """Return the columns of a process."""
        start = sum(self.cols[:owner])
        return slice(start, start + self.cols[owner])

    def swap(self, going: Tensor, coming: Tensor, distance: int = 1) -> list[Any]:
        """Send so many processes on, receive from as many before; empty tensors stay."""
        ahead, behind = (self.rank + distance) % self.size, (self.rank - distance) % self.size
        ops = []
        if going.numel():
            ops.append(distributed.P2POp(distributed.isend, going, ahead))
        if coming.numel():
            ops.append(distributed.P2POp(distributed.irecv, coming, behind))
        works: list[Any] = distributed.batch_isend_irecv(ops) if ops else []
        return works


def gather_columns(columns: Tensor, ranks: Ranks) -> Tensor:
    """Gather (M, ...) the numbers of all columns from every process, differentiable."""
    whole: Tensor = apply_once(_Gather, columns, ranks)
    return whole


def total(share: Tensor, ranks: Ranks) -> Tensor:
    """Sum over processes, differentiable."""
    whole: Tensor = apply_once(_Total, share, ranks)
    return whole


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shard: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.gather(shard.detach())

    @staticmethod
    @first_only
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.scatter_sum(cotangent), None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shard: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.sum_(shard.detach().clone())

    @staticmethod
    @first_only
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.sum_(cotangent.contiguous().clone()), None
