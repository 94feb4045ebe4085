"""Who is positive, negative or ignored for whom in a batch.

Shapes: N rows (anchors of x), M columns (anchors of y). Over processes each has n and m of them,
and meets the columns of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tauten.pairwise import PairMask
from tauten.pairwise.exchange import Ranks, total
from tauten.pairwise.sides import as_reduced, pair_similarity

#: one id vector for both sides, or one for each
Ids = Tensor | tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Relation:
    """The relation of a batch; build it with :func:`relate`.

    Attributes:
        positive: (n,) long, the column of each row's positive among this process's columns.
        diagonal: whether that is column i for every row i.
        labels: ((n,), (M,)) when every pair of equal labels is positive.
        same: id vectors of the two sides, (n,) and (M,); a pair that agrees in any is ignored.
        ignore: (n, M) bool, further pairs to ignore.
        ranks: the processes, if there are several.
    """

    positive: Tensor
    diagonal: bool
    labels: tuple[Tensor, Tensor] | None
    same: tuple[tuple[Tensor, Tensor], ...]
    ignore: Tensor | None
    ranks: Ranks | None = None

    @property
    def columns(self) -> Tensor:
        """(n,) the column of each row's positive among the columns of all processes."""
        return self.positive + self._first

    @property
    def _first(self) -> int:
        return 0 if self.ranks is None else self.ranks.first

    def mask(self, *, own: bool) -> PairMask | None:
        """The pairs that a reduction leaves out; with ``own`` the positives too."""
        if not own and not self.same and self.ignore is None:
            return None
        diagonal = self._first if self.diagonal else None
        return PairMask(self.columns, own, self.same, self.ignore, diagonal, self.labels)

    @property
    def single(self) -> bool:
        """Whether each anchor has one positive and all others are its negatives."""
        return self.labels is None and not self.same and self.ignore is None

    def on_columns(self, per_row: Tensor, cols: int) -> Tensor:
        """(M,) the number of each row, (N,), at the column of its positive; 0 elsewhere."""
        if self.diagonal:
            return per_row
        return per_row.new_zeros(cols).index_put((self.positive,), per_row)

    def positives(self, x: Tensor, y: Tensor, *, cosine: bool) -> tuple[Tensor, Tensor]:
        """Mean similarity of each row, and of each column, to its positives: (N,), (M,)."""
        if self.labels is None:
            score = pair_similarity(x, y, self.positive, cosine=cosine)
            return score, self.on_columns(score, len(y))
        x, y = as_reduced(x, y, cosine=cosine)
        x_code, y_code, classes = self._codes()
        return (
            (x * self._class_means(y, y_code, classes)[x_code]).sum(1),
            (y * self._class_means(x, x_code, classes)[y_code]).sum(1),
        )

    def counts(self) -> tuple[Tensor, Tensor] | tuple[int, int]:
        """How many positives each row and each column has."""
        if self.labels is None:
            return 1, 1
        x_code, y_code, classes = self._codes()
        return self._sizes(y_code, classes)[x_code], self._sizes(x_code, classes)[y_code]

    def _codes(self) -> tuple[Tensor, Tensor, int]:
        """The labels of this process's two sides as 0 .. classes-1, the same on all."""
        assert self.labels is not None
        rows, cols = self.labels
        all_rows = rows
        if self.ranks is not None:
            all_rows = self.ranks.gather(rows, self.ranks.rows)
            cols = cols[self.ranks.own]
        known = torch.cat([all_rows, self.labels[1]]).unique()
        return torch.searchsorted(known, rows), torch.searchsorted(known, cols), len(known)

    def _sizes(self, code: Tensor, classes: int) -> Tensor:
        """How many samples each class has on that side, over all processes."""
        sizes = torch.bincount(code, minlength=classes)
        return sizes if self.ranks is None else self.ranks.sum_(sizes)

    def _class_means(self, vectors: Tensor, code: Tensor, classes: int) -> Tensor:
        sums = vectors.new_zeros(classes, vectors.shape[1]).index_add(0, code, vectors)
        if self.ranks is not None:
            sums = total(sums, self.ranks)
        return sums / self._sizes(code, classes).clamp(min=1).unsqueeze(1)


def relate(
    rows: int,
    cols: int,
    device: torch.device,
    *,
    positives: Tensor | None = None,
    labels: Ids | None = None,
    same: Tensor | Sequence[Ids] = (),
    ignore: Tensor | None = None,
    both: bool = True,
    ranks: Ranks | None = None,
) -> Relation:
    """The relation of a batch, with everything checked.

    Args:
        rows: N.
        cols: M.
        device: where the pair matrix lives.
        positives: (N,) long, the column of each row's positive; row i's is column i when not given.
        labels: (N,), or one vector for each side: every pair of equal labels is positive.
        same: id vectors, e.g. ``(image_ids, caption_ids)``, each (N,) or a pair ((N,), (M,)). A
            pair of the batch that is no positive but agrees in any of them is left out: the same
            image or an equal caption twice in a batch is no negative.
        ignore: (N, M) bool, further pairs to leave out.
        both: whether rows of y are anchors too, so that each needs a positive.
        ranks: the processes, if there are several: N and M are then this one's, but ``ignore`` has
            the columns of all processes in their order.

    Raises:
        ValueError: wrong lengths, columns out of range, or options that exclude each other.
    """
    if positives is not None and labels is not None:
        raise ValueError("give positives= or labels=, not both")
    if positives is None:
        if rows > cols or (rows != cols and labels is None):
            raise ValueError(
                f"x has {rows} rows and y has {cols}: x[i] and y[i] must be a pair; pass equal "
                "lengths, or positives= with the row of y that belongs to each row of x"
            )
        positive = torch.arange(rows, device=device)
    else:
        positive = _vector("positives", positives, rows).to(device)
        if bool(((positive < 0) | (positive >= cols)).any()):
            raise ValueError(
                f"positives must be rows of y in 0 .. {cols - 1}, got {_ends(positive)}"
            )
    shape = (rows, cols if ranks is None else sum(ranks.cols))
    if ignore is not None and (ignore.shape != shape or ignore.dtype != torch.bool):
        raise ValueError(
            f"ignore must be a bool matrix {shape}, got {ignore.dtype} {tuple(ignore.shape)}"
        )
    sides = None if labels is None else _sides("labels", labels, rows, cols, device, ranks)
    if sides is not None:
        _check_labels("x", *sides)
        if both:
            rows_of_all = sides[0] if ranks is None else ranks.gather(sides[0], ranks.rows)
            _check_labels("y", sides[1], rows_of_all)
    several = (same,) if isinstance(same, Tensor) else tuple(same)
    return Relation(
        positive=positive,
        diagonal=positives is None,
        labels=sides,
        same=tuple(_sides("same", ids, rows, cols, device, ranks) for ids in several),
        ignore=None if ignore is None else ignore.to(device),
        ranks=ranks,
    )


def _check_labels(name: str, labels: Tensor, others: Tensor) -> None:
    alone = ~torch.isin(labels, others)
    if bool(alone.any()):
        missing = labels[alone].unique().tolist()
        raise ValueError(f"labels {missing[:5]} of {name} have no positive on the other side")


def _vector(name: str, ids: Tensor, length: int) -> Tensor:
    if not isinstance(ids, Tensor) or ids.dim() != 1 or len(ids) != length:
        shape = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"{name} must be a vector of {length} ids, got {shape}")
    if ids.is_floating_point():
        raise ValueError(f"{name} must hold integers, got {ids.dtype}")
    return ids.long()


def _sides(
    name: str, ids: Ids, rows: int, cols: int, device: torch.device, ranks: Ranks | None
) -> tuple[Tensor, Tensor]:
    """(n,) of the rows and (M,) of all columns."""
    first, second = ids if isinstance(ids, tuple) else (ids, ids)
    mine = _vector(name, first, rows).to(device)
    others = _vector(name, second, cols).to(device)
    return mine, others if ranks is None else ranks.gather(others)


def _ends(ids: Tensor) -> str:
    return f"{int(ids.min())} .. {int(ids.max())}"
