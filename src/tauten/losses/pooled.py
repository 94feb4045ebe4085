"""A small batch of several processes, pooled: whole on each, which takes the loss of all pairs.

A message costs more than the loss of a few hundred pairs. So one message brings all of the batch,
and none is needed after it: each process has the gradient of its own rows, of all their pairs.

Shapes: n rows and m columns of this process, M of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tauten.controls import Control
from tauten.messages import Ragged, apart, row_bytes, side_by_side
from tauten.pairwise.exchange import Ranks, shared
from tauten.pairwise.kinds import DTYPES, Kind
from tauten.pairwise.once import transformed
from tauten.relations import Ids

if TYPE_CHECKING:
    from tauten.losses.base import ContrastiveLoss


class Met(NamedTuple):
    """Part of a batch that a process works on.

    Attributes:
        x: (n, d), or (M, d) where the batch is pooled.
        y: (m, d), or (M, d); x itself where it was.
        ids: data set positions of these rows, as they were given.
        relation: of these rows.
        ranks: the processes that share the pair matrix; None where the batch is pooled.
        shard: rows of this process in a pooled batch; None where it is not pooled.
    """

    x: Tensor
    y: Tensor
    ids: Ids | None
    relation: Mapping[str, Any]
    ranks: Ranks | None
    shard: slice | None


def meet(
    loss_fn: ContrastiveLoss,
    x: Tensor,
    y: Tensor,
    index: Ids | None,
    relation: Mapping[str, Any],
    *,
    plain: bool,
) -> Met:
    """Tell all processes of this one's part of the batch, and return what each works on.

    Args:
        loss_fn: the loss.
        x: (n, d).
        y: (m, d).
        index: data set positions.
        relation: keywords of :func:`tauten.relations.relate`.
        plain: whether there are no keys, targets, weights or own negatives.
    """
    if plain and _may_pool(loss_fn, relation, x, y):
        given = _Given(x, y, index, relation.get("same", ()))
        if given.fits():
            ranks = given.send(loss_fn._room)
            return given.of_all(ranks) or Met(x, y, index, relation, ranks, None)
    kind = Kind.of(x, pooled=False) if x.dtype in DTYPES else None
    ranks_or_none = loss_fn._ranks(len(x), len(y), x.device, relation, kind)
    return Met(x, y, index, relation, ranks_or_none, None)


def _may_pool(loss_fn: ContrastiveLoss, relation: Mapping[str, Any], x: Tensor, y: Tensor) -> bool:
    """Return whether a loss follows from embeddings and ids alone; the same on all processes."""
    usual = loss_fn.pools and loss_fn.ranks == "auto" and loss_fn.tile == "auto"
    if not usual or loss_fn.reduction not in ("mean", "sum") or not relation.keys() <= {"same"}:
        return False
    if x.dtype not in DTYPES:
        return False
    words = row_bytes(x) % 8 == 0 if y is x else (row_bytes(x) + row_bytes(y)) % 8 == 0
    if not words or torch.compiler.is_compiling() or transformed():
        return False
    return all(part.of_ids for part in loss_fn.children() if isinstance(part, Control))


class _Given:
    """Part of this process in a batch that may be pooled.

    Args:
        x: (n, d).
        y: (m, d).
        index: data set positions.
        same: ids of which equals are no negatives.
    """

    def __init__(
        self, x: Tensor, y: Tensor, index: Ids | None, same: Tensor | Sequence[Ids]
    ) -> None:
        self.sides = [x] if y is x else [x, y]
        several: list[Any] = list(same) if isinstance(same, (tuple, list)) else [same]
        self.named = index is not None
        given = several if index is None else [index, *several]
        apiece = [isinstance(ids, (tuple, list)) and len(ids) == 2 for ids in given]
        #: of which ids each side has its own, as bits
        self.note = sum(1 << at for at, two in enumerate(apiece) if two)
        pairs = [ids if two else (ids, ids) for ids, two in zip(given, apiece, strict=True)]
        self.of_rows: list[Tensor] = [first for first, _ in pairs]
        self.of_columns: list[Tensor] = [second for _, second in pairs]

    def fits(self) -> bool:
        """Return whether all ids are such that a message can hold them; others are refused."""
        rows, cols = len(self.sides[0]), len(self.sides[-1])
        ids = [(one, rows) for one in self.of_rows] + [(one, cols) for one in self.of_columns]
        return all(
            isinstance(one, Tensor)
            and one.shape == (length,)
            and not one.is_floating_point()
            and not one.is_complex()
            for one, length in ids
        )

    def _packed(self) -> Tensor:
        """Return (m, w) long: ids of rows and embeddings, of as many rows as there are columns."""
        cols, device = len(self.sides[-1]), self.sides[0].device
        parts = [ids.to(device).long() for ids in self.of_rows]
        parts += [side.detach() for side in self.sides]
        return side_by_side([_of_length(part, cols) for part in parts]).view(torch.int64)

    def send(self, room: Ragged) -> Ranks:
        """Tell all processes of this part, with the batch itself if the last one was small."""
        rows, cols = len(self.sides[0]), len(self.sides[-1])
        device = self.sides[0].device
        kind = Kind.of(self.sides[0], pooled=True, named=self.named)
        return Ranks(rows, cols, device, self.of_columns, room, self._packed(), self.note, kind)

    def of_all(self, ranks: Ranks) -> Met | None:
        """Return the batch of all processes, or None where it is not small."""
        if ranks.unpacked is None:
            return None
        rows = ranks.unpacked.contiguous().view(torch.uint8)
        likes = [rows.new_empty(0, dtype=torch.int64)] * len(self.of_rows)
        parts = apart(rows, [*likes, *self.sides])
        ids: list[Ids] = []
        for at, (first, second) in enumerate(zip(parts, self.of_columns, strict=False)):
            whole = ranks.known(second)
            assert whole is not None
            apiece = any(note >> at & 1 for note in ranks.notes)
            ids.append((first, whole) if apiece else whole)
        sides = [
            shared(side, whole, ranks)
            for side, whole in zip(self.sides, parts[len(ids) :], strict=True)
        ]
        index = ids.pop(0) if self.named else None
        return Met(sides[0], sides[-1], index, {"same": ids}, None, ranks.own)


def _of_length(rows: Tensor, length: int) -> Tensor:
    """Return (length, ...) the first rows, and zeros where there are not as many."""
    missing = length - len(rows)
    if missing > 0:
        return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])
    return rows[:length]
