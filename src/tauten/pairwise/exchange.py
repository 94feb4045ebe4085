"""Exchange between the processes of a group about one pair matrix.

Rank r owns n_r rows and m_r columns; N and M are their sums. Columns are numbered in the order of
ranks. Collectives are entered by all ranks in the same order, in the backward pass too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, distributed

from tauten.messages import (
    Ragged,
    apart,
    board,
    deal,
    gather_equal,
    gather_small,
    row_bytes,
    side_by_side,
)
from tauten.messages import grouped as grouped
from tauten.messages import several_processes as several_processes
from tauten.pairwise.kinds import Kind, check_kinds
from tauten.pairwise.once import apply_once, first_only
from tauten.pairwise.sums import Along, AtOnce, Sent, Sums

# torch 2.13 renames it
_reduce_scatter = (
    getattr(distributed, "reduce_scatter_single", None) or distributed.reduce_scatter_tensor
)


#: bytes of all processes up to which rows leave by one message of gloo, which takes a copy of them
#: for each process
SMALL = 4 * 2**20
#: columns whose gradients are sent at once; on a GPU a process's columns are not cut
PIECE = 1024
#: pairs of the batch of all processes up to which each takes the loss of all of them
FEW_PAIRS = 2**18


def gather_objects(value: Any) -> list[Any]:
    """Return the values of all processes, in order; its own alone where there is one process."""
    if not several_processes():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


class Ranks:
    """The processes of the default group and how many rows and columns each has.

    Args:
        rows: number of rows of this process.
        cols: number of columns of this process.
        device: where collectives run.
        ids: vectors (cols,) long that all processes need of all columns: :meth:`known` has them.
        room: of the messages of this kind so far; the same one on all processes.
        packed: (cols, w) long, what all processes take of all columns where the batch is small.
        note: a whole number for all processes.
        kind: of the input, which must be the same on all processes.

    Attributes:
        unpacked: (M, w) the packed rows of all, if the batch is small and each row has a column.
        notes: of all processes.

    What :func:`tauten.messages.riding` has to tell goes with the sizes.

    Raises:
        ValueError: on all processes, where kinds differ.
    """

    def __init__(
        self,
        rows: int,
        cols: int,
        device: torch.device,
        ids: Sequence[Tensor] = (),
        room: Ragged | None = None,
        packed: Tensor | None = None,
        note: int = 0,
        kind: Kind | None = None,
    ) -> None:
        self.size, self.rank = distributed.get_world_size(), distributed.get_rank()
        self.device = device
        riders = board()
        kind = kind or Kind()
        head = torch.tensor([rows, note, *kind, len(ids)], device=device)
        if len(riders.flags):
            head = torch.cat([head, riders.flags.to(device, torch.int64)])
        given = head.new_empty(cols, 0)
        if ids:
            given = torch.stack([one.to(device).long() for one in ids], dim=1)
        room = room or Ragged()
        along = packed is not None and room.small
        if packed is not None and along:
            given = torch.cat([given, packed], dim=1)
        heads, parts = room.gather(head, given, check_kinds)
        self.cols: list[int] = [len(part) for part in parts]
        self.rows: list[int] = [one[0] for one in heads]
        self.notes: list[int] = [one[1] for one in heads]
        whole = torch.cat(parts)
        self._known = list(zip(ids, whole[:, : len(ids)].unbind(1), strict=True))
        self._block: _Block | None = None
        self.unpacked: Tensor | None = None
        if packed is not None:
            room.small = self.rows == self.cols and sum(self.cols) ** 2 <= FEW_PAIRS
            if room.small:
                self.unpacked = whole[:, len(ids) :] if along else self.gather(packed)
                room.room = max(self.cols) * (len(ids) + packed.shape[1])
        riders.arrive([one[3 + len(kind) :] for one in heads])

    @property
    def first(self) -> int:
        """The number of this process's first column."""
        return sum(self.cols[: self.rank])

    @property
    def own(self) -> slice:
        """The columns of this process."""
        return slice(self.first, self.first + self.cols[self.rank])

    def known(self, ids: Tensor) -> Tensor | None:
        """Return (M,) the ids of all columns, of which these came with the sizes, or None."""
        return next((whole for shard, whole in self._known if shard is ids), None)

    def gather(self, shard: Tensor, counts: list[int] | None = None) -> Tensor:
        """Gather (M, ...) from (m_r, ...) of each process; ``counts`` if not columns are meant."""
        counts = self.cols if counts is None else counts
        if distributed.get_backend() == "gloo":
            if self._small(shard, counts):
                return gather_small(shard, counts)
            return self._exchange(shard.contiguous(), counts)
        most = max(counts)
        if shard.shape[0] < most:
            padding = shard.new_zeros(most - shard.shape[0], *shard.shape[1:])
            shard = torch.cat([shard, padding])
        whole = gather_equal(shard).flatten(0, 1)
        if min(counts) == most:
            return whole
        return torch.cat([part[:n] for part, n in zip(whole.split(most), counts, strict=True)])

    def gather_with(self, shard: Tensor, block: Tensor) -> Tensor:
        """Gather (M, ...) numbers of columns, and with them a block that :meth:`arrivals` needs.

        A block that is large leaves alone, so that work begins while it arrives.

        Args:
            shard: (m_r, ...).
            block: (m_r, d) embeddings of this process's columns.
        """
        if self._block is not None or not self._small(block, self.cols):
            return self.gather(shard)
        both = (shard, block)
        numbers, whole = apart(self.gather(side_by_side(both)), both)
        self._block = _Block(block, whole)
        return numbers

    def _small(self, shard: Tensor, counts: list[int]) -> bool:
        return sum(counts) * row_bytes(shard) <= SMALL

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
        return deal(whole, self.cols).sum(0)

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
        small = self._small(shard, self.cols)
        if small or distributed.get_backend() != "gloo":
            if self._block is None or not self._block.of(shard):
                self._block = _Block(shard, self.gather(shard)) if small else None
            whole = self.gather(shard) if self._block is None else self._block.whole
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
        if distributed.get_backend() == "gloo" and self._small(like, self.cols):
            return AtOnce(self, like)
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


class _Block:
    """The columns of all processes, as long as those of this one are what they were.

    Attributes:
        whole: (M, d).
    """

    def __init__(self, shard: Tensor, whole: Tensor) -> None:
        self.shard, self.whole = shard, whole
        self._version = shard._version

    def of(self, shard: Tensor) -> bool:
        """Return whether these are the columns of this process."""
        same = (self.shard.data_ptr(), self.shard.shape, self.shard.stride(), self.shard.dtype) == (
            *(shard.data_ptr(), shard.shape, shard.stride(), shard.dtype),
        )
        return same and shard._version == self._version


def gather_columns(shard: Tensor, ranks: Ranks, block: Tensor | None = None) -> Tensor:
    """Gather (M, ...) the numbers of all columns from every process, differentiable.

    Args:
        shard: (m_r, ...).
        ranks: the processes.
        block: what will be needed of all columns, too; see :meth:`Ranks.gather_with`.
    """
    whole: Tensor = apply_once(_Gather, shard, ranks, None if block is None else block.detach())
    return whole


def total(shard: Tensor, ranks: Ranks) -> Tensor:
    """Sum over processes, differentiable."""
    whole: Tensor = apply_once(_Total, shard, ranks)
    return whole


def shared(shard: Tensor, whole: Tensor, ranks: Ranks) -> Tensor:
    """Return the rows of all processes, of which those of this one have a gradient, differentiable.

    Each process takes the loss of the whole batch from them. The gradient of its own rows is times
    the number of processes, so that the mean of parameters' gradients over processes, which data
    parallelism takes, is that of the whole batch.

    Args:
        shard: (m_r, ...).
        whole: (M, ...) those of all processes, detached.
        ranks: the processes.
    """
    rows: Tensor = apply_once(_Shared, shard, whole, ranks)
    return rows


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shard: Tensor, whole: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return whole.view_as(whole)

    @staticmethod
    @first_only
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        return cotangent[ctx.ranks.own] * ctx.ranks.size, None, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shard: Tensor, ranks: Ranks, block: Tensor | None) -> Tensor:
        ctx.ranks = ranks
        if block is None:
            return ranks.gather(shard.detach())
        return ranks.gather_with(shard.detach(), block)

    @staticmethod
    @first_only
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        return ctx.ranks.scatter_sum(cotangent), None, None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shard: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.sum_(shard.detach().clone())

    @staticmethod
    @first_only
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.sum_(cotangent.contiguous().clone()), None
