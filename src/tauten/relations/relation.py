"""The relation of a batch: who is positive, negative or ignored for whom.

Shapes: N rows (anchors of x), M columns (anchors of y). Over processes each has n and m of them,
and meets the columns of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tauten.checks import few
from tauten.pairwise import PairMask
from tauten.pairwise.exchange import Ranks, total
from tauten.pairwise.sides import as_reduced, pair_similarity
from tauten.relations.agreement import looked_up
from tauten.relations.checks import (
    Ids,
    check_free,
    check_times,
    checked_ignore,
    checked_positives,
    id_sides,
    listed,
)
from tauten.relations.labelled import by_labels


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
        itself: whether both sides are one set, so that column i is row i's own sample.
        times: (m,) how many rows each of this process's columns is the positive of; None if each
            is of one, and with labels.
        rows_paired: (n,) bool, the rows that have a positive; None if all have.
        columns_paired: (m,) bool, the columns that have one, of this process; None if all have.
        paired: whether row i and column ``positive[i]`` are one pair, for all anchors.
        free: whether nobody has a positive, because targets say all.
        symmetric: whether row i is ignored for column j wherever row j is for column i.
        agreeing: (K,) long, the places i·N + j of all pairs that ``same`` leaves out, where the
            positive of row i is column i; None if there are none, many, or they are not known.
        single: whether each anchor has one positive and all others are its negatives.
    """

    positive: Tensor
    diagonal: bool
    labels: tuple[Tensor, Tensor] | None
    same: tuple[tuple[Tensor, Tensor], ...]
    ignore: Tensor | None
    ranks: Ranks | None = None
    itself: bool = False
    times: Tensor | None = None
    rows_paired: Tensor | None = None
    columns_paired: Tensor | None = None
    paired: bool = True
    free: bool = False
    symmetric: bool = False
    agreeing: Tensor | None = None
    single: bool = field(init=False)

    def __post_init__(self) -> None:
        plain = self.labels is None and not self.same and self.ignore is None
        object.__setattr__(self, "single", plain and not self.itself and not self.free)

    @property
    def columns(self) -> Tensor:
        """(n,) the column of each row's positive among the columns of all processes."""
        return self.positive if self.ranks is None else self.positive + self.ranks.first

    def mask(self, *, own: bool, only_positives: bool = False) -> PairMask | None:
        """Return the pairs that a reduction leaves out; with ``own`` the positives too."""
        whole = not self.same and self.ignore is None and not self.itself
        if whole and not own and not only_positives:
            return None
        first = 0 if self.ranks is None else self.ranks.first
        return PairMask(
            self.columns,
            own,
            self.same,
            self.ignore,
            first if self.diagonal else None,
            self.labels,
            first if self.itself else None,
            only_positives,
        )

    def of_rows(self, per_column: Tensor) -> Tensor:
        """Return (N,) the number of each row's positive, from this process's columns' (M,)."""
        if self.diagonal and self.positive.shape == per_column.shape:
            return per_column
        return per_column[self.positive]

    def on_columns(self, per_row: Tensor, cols: int) -> Tensor:
        """Return (M,) the number of each row, (N,), at the column of its positive; 0 elsewhere."""
        if self.diagonal and per_row.shape[0] == cols:
            return per_row
        return per_row.new_zeros(cols).index_put((self.positive,), per_row)

    def positives(self, x: Tensor, y: Tensor, *, cosine: bool) -> tuple[Tensor, Tensor]:
        """Return the mean similarity of each row, and of each column, to its positives: (N,), (M,).

        With ``ignore`` and labels it is a reduction over pairs, and none of this.
        """
        if self.labels is None:
            score = pair_similarity(x, y, self.positive, cosine=cosine)
            return score, self.on_columns(score, len(y))
        x, y = as_reduced(x, y, cosine=cosine)
        x_code, y_code, classes = self._codes()
        if self.itself:
            size = self._sizes(y_code, classes)[y_code]
            whole = (x * self._class_means(y, y_code, classes)[x_code]).sum(1) * size
            mean = (whole - (x * y).sum(1)) / (size - 1).clamp(min=1)
            return mean, mean
        return (
            (x * self._class_means(y, y_code, classes)[x_code]).sum(1),
            (y * self._class_means(x, x_code, classes)[y_code]).sum(1),
        )

    def counts(self) -> tuple[Tensor, Tensor] | tuple[int, int]:
        """Return the number of positives of each row and each column, ignored ones included."""
        if self.labels is None:
            return 1, 1
        x_code, y_code, classes = self._codes()
        itself = 1 if self.itself else 0
        sizes = self._sizes(y_code, classes)[x_code], self._sizes(x_code, classes)[y_code]
        return sizes[0] - itself, sizes[1] - itself

    def _codes(self) -> tuple[Tensor, Tensor, int]:
        """Return the labels of this process's two sides as 0 .. classes-1, the same on all."""
        assert self.labels is not None
        rows, cols = self.labels
        all_rows = rows
        if self.ranks is not None:
            all_rows = self.ranks.gather(rows, self.ranks.rows)
            cols = cols[self.ranks.own]
        known = torch.cat([all_rows, self.labels[1]]).unique()
        return torch.searchsorted(known, rows), torch.searchsorted(known, cols), len(known)

    def _sizes(self, code: Tensor, classes: int) -> Tensor:
        """Return the number of samples of each class on that side, over all processes."""
        sizes = code.new_zeros(classes).index_add(0, code, torch.ones_like(code))
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
    directions: Literal["both", "x2y", "y2x"] = "both",
    itself: bool = False,
    ranks: Ranks | None = None,
    targeted: bool = False,
) -> Relation:
    """Return the relation of a batch, with everything checked.

    Args:
        rows: N.
        cols: M.
        device: where the pair matrix lives.
        positives: (N,) long, the column of each row's positive; row i's is column i when not given.
            Columns that are nobody's positive are further candidates.
        labels: (N,), or one vector for each side: every pair of equal labels is positive.
        same: id vectors, e.g. ``(image_ids, caption_ids)``, each (N,) or a pair ((N,), (M,)). A
            pair of the batch that is no positive but agrees in any of them is left out: the same
            image or an equal caption twice in a batch is no negative.
        ignore: (N, M) bool, further pairs to leave out; with labels positives too.
        directions: whose rows are anchors, so that each needs a positive.
        itself: whether both sides are one set, in which nobody is the own positive or candidate.
        ranks: the processes, if there are several: N and M are then this one's, but ``ignore`` has
            the columns of all processes in their order.
        targeted: whether targets say all, so that one set, or more rows than columns, need no
            positives.

    Raises:
        ValueError: wrong lengths, columns out of range, options that exclude each other, or an
            anchor without a positive.
    """
    if positives is not None and labels is not None:
        raise ValueError("give positives= or labels=, not both")
    free = targeted and positives is None and labels is None and (itself or rows > cols)
    if itself and positives is None and labels is None and not free:
        raise ValueError(
            "one set of embeddings needs labels= or positives=, which say who belongs together; "
            "or pass x and y"
        )
    shape = (rows, cols if ranks is None else sum(ranks.cols))
    if ignore is not None:
        ignore = checked_ignore(ignore, shape).to(device)
    masked: tuple[tuple[Tensor, Tensor], ...] = ()
    agreeing: Tensor | None = None
    of_both = True
    if isinstance(same, Tensor) or same != ():
        several = (same,) if isinstance(same, Tensor) else listed(same)
        of_both = all(isinstance(ids, Tensor) for ids in several)
        if positives is None and labels is None:
            masked, agreeing = looked_up(several, rows, cols, device, ranks)
        else:
            masked = tuple([id_sides("same", ids, rows, cols, device, ranks) for ids in several])
    if labels is not None:
        return by_labels(
            Relation(
                positive=torch.arange(rows, device=device),
                diagonal=True,
                labels=id_sides("labels", labels, rows, cols, device, ranks),
                same=masked,
                ignore=ignore,
                ranks=ranks,
                itself=itself,
            ),
            rows,
            cols,
            directions,
        )
    if free:
        check_free(rows, cols, directions, same=bool(masked), itself=itself)
        positive = torch.arange(rows, device=device) % max(cols, 1)
        return Relation(
            positive,
            diagonal=False,
            labels=None,
            same=masked,
            ignore=ignore,
            ranks=ranks,
            itself=itself,
            free=True,
        )
    if positives is None:
        if rows > cols:
            raise ValueError(
                f"x has {rows} rows and y has {cols}: x[i] and y[i] must be a pair; pass a row of "
                "y for each row of x, or positives= with the row of y that belongs to it"
            )
        positive = torch.arange(rows, device=device)
        if ignore is None and rows == cols:  # a row and a column for each pair: nothing to check
            return Relation(
                positive,
                diagonal=True,
                labels=None,
                same=masked,
                ignore=None,
                ranks=ranks,
                itself=itself,
                symmetric=of_both and (ranks is None or ranks.rows == ranks.cols),
                agreeing=None if itself else agreeing,
            )
    else:
        positive = checked_positives(positives, rows, cols, itself=itself).to(device)
    first = 0 if ranks is None else ranks.first
    if ignore is not None:
        left_out = ignore[torch.arange(rows, device=device), positive + first].nonzero().squeeze(1)
        if len(left_out):
            raise ValueError(
                f"ignore= leaves out the positive of {len(left_out)} rows of x: "
                f"{few(left_out.tolist())}; an anchor needs its positive, so set ignore[i, "
                "positive of i] to False or leave the row out of the batch"
            )
    times = None
    if positives is not None or rows != cols:
        times = torch.zeros(cols, dtype=torch.int64, device=device)
        times.index_add_(0, positive, torch.ones_like(positive))
        of_anchors = "x2y" if itself else directions
        if positives is None:  # each of the first columns once, and no other
            if of_anchors == "y2x":
                check_times(times, of_anchors)
        elif bool((times == 1).all()):
            times = None
        else:
            check_times(times, of_anchors)
    return Relation(
        positive=positive,
        diagonal=positives is None,
        labels=None,
        same=masked,
        ignore=ignore,
        ranks=ranks,
        itself=itself,
        times=times,
        columns_paired=None if times is None else times > 0,
    )
