"""Gradients of columns, which every process has a part of, added up at the columns' owners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from tauten.messages import deal

if TYPE_CHECKING:
    from tauten.pairwise.exchange import Ranks


class Sums:
    """Blocks (m_r, d) that processes add up, piece by piece, while they are on their way."""

    def __init__(self, ranks: Ranks, like: Tensor) -> None:
        self.ranks, self.like = ranks, like
        self.own = like.new_zeros(ranks.cols[ranks.rank], *like.shape[1:])
        self.leaving: Tensor | None = None
        self.works: list[Any] = []

    def room(self, owner: int, piece: int) -> Tensor:
        """Return zeros for what this process has for a piece of that owner's block."""
        which = self.ranks.pieces(owner)[piece]
        if owner == self.ranks.rank:
            return self.own[which]
        return self.like.new_zeros(which.stop - which.start, *self.like.shape[1:])

    def add(self, owner: int, piece: int, share: Tensor) -> None:
        """Add what :meth:`room` was filled with; others' blocks are sent."""
        if owner != self.ranks.rank:
            self._settle()
            self._send(owner, piece, share)

    def arrived(self) -> Tensor:
        """Return the sum for our own block."""
        self._settle()
        return self.own

    def _send(self, owner: int, piece: int, share: Tensor) -> None:
        raise NotImplementedError

    def _settle(self) -> None:
        for work in self.works:
            work.wait()
        self.works, self.leaving = [], None

    def _swap(self, share: Tensor, sender: int, piece: int, distance: int) -> Tensor:
        """Send a piece; the room for that of ``sender``'s block, which comes in exchange."""
        which = self.ranks.pieces(sender)[piece]
        coming = self.like.new_empty(which.stop - which.start, *self.like.shape[1:])
        self.leaving, self.works = share, self.ranks.swap(share, coming, distance)
        return coming


class Along(Sums):
    """Sums that travel with the blocks of :meth:`Ranks.around` and end at their owners."""

    def __init__(self, ranks: Ranks, like: Tensor) -> None:
        super().__init__(ranks, like)
        self.coming: dict[int, Tensor] = {}

    def arrived(self) -> Tensor:
        self._settle()
        for piece, part in self.coming.items():
            self.own[self.ranks.pieces(self.ranks.rank)[piece]] += part
        return self.own

    def _send(self, owner: int, piece: int, share: Tensor) -> None:
        if piece in self.coming:
            share += self.coming.pop(piece)
        after = (owner - 1) % self.ranks.size
        self.coming[piece] = self._swap(share, after, piece, 1)


class Sent(Sums):
    """Sums whose parts are sent to their owners, ours first."""

    def __init__(self, ranks: Ranks, like: Tensor) -> None:
        super().__init__(ranks, like)
        self.coming: tuple[int, Tensor] | None = None

    def _send(self, owner: int, piece: int, share: Tensor) -> None:
        distance = (owner - self.ranks.rank) % self.ranks.size
        self.coming = piece, self._swap(share, self.ranks.rank, piece, distance)

    def _settle(self) -> None:
        super()._settle()
        if self.coming is not None:
            piece, part = self.coming
            self.own[self.ranks.pieces(self.ranks.rank)[piece]] += part
            self.coming = None


class AtOnce(Sums):
    """Sums whose parts leave together, when all are there; they are held until then."""

    def __init__(self, ranks: Ranks, like: Tensor) -> None:
        super().__init__(ranks, like)
        self.whole = like.new_zeros(sum(ranks.cols), *like.shape[1:])

    def room(self, owner: int, piece: int) -> Tensor:
        which = self.ranks.pieces(owner)[piece]
        return self.whole[self.ranks.columns_of(owner)][which]

    def add(self, owner: int, piece: int, share: Tensor) -> None:
        pass

    def arrived(self) -> Tensor:
        ranks = self.ranks
        parts = deal(self.whole, ranks.cols)
        whole = parts[ranks.rank]
        for distance in range(1, ranks.size):
            whole += parts[(ranks.rank + distance) % ranks.size]
        return whole
