"""Uniformity: how evenly embeddings cover the sphere (Wang & Isola 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tauten.ids import check_index
from tauten.pairwise.exchange import Ranks
from tauten.pairwise.sides import within_range
from tauten.terms.base import (
    Across,
    AddedTerm,
    batch_log_sum_exp,
    check_pairs,
    check_rows,
    log_pairs,
    off_diagonal_lse,
    positive,
)


@torch.no_grad()
def separation(x: Tensor, ranks: Ranks | None, t: float) -> Tensor:
    """Return () −U(x), see :class:`Uniformity`, over all processes; NaN of fewer than two rows."""
    group = None if ranks is None else Ranks(len(x), len(x), x.device)
    rows = len(x) if group is None else sum(group.rows)
    if rows < 2:
        return x.new_full((), math.nan)
    per_row = off_diagonal_lse(x, x, 2 * t, group)
    return 2 * t + log_pairs(rows) - batch_log_sum_exp(per_row, group)


class _Potential(AddedTerm):
    """A Gaussian potential of a sharpness t, over pairs of different rows."""

    def __init__(self, t: float = 2.0, *, ranks: Across = "auto") -> None:
        super().__init__(ranks)
        self.t = positive("t", t)

    def extra_repr(self) -> str:
        return f"t={self.t:g}"

    def _of(self, x: Tensor, y: Tensor) -> Tensor:
        group = self._group(len(x), x.device)
        rows = check_rows("x", x, 2, group)
        check_rows("y", y, 2, group)
        with torch.autocast(x.device.type, enabled=False):
            same, x = y is x, within_range(x)
            y = x if same else within_range(y)
            per_row = off_diagonal_lse(x, y, 2 * self.t, group)
            # ‖a − b‖² = 2 − 2s for unit rows
            return batch_log_sum_exp(per_row, group) - 2 * self.t - log_pairs(rows)


class Uniformity(_Potential):
    """Log of the mean Gaussian potential of pairs of different rows of one side.

    U(x) = log mean_{i≠j} exp(−t ‖x_i − x_j‖²), rows scaled to length 1. It is 0 where all rows are
    equal and lower the more evenly they are spread. Wang & Isola 2020.

    Args:
        t: sharpness of the potential, > 0; published: 2.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: t that is not above 0.
    """

    def forward(self, x: Tensor, same: Tensor | None = None) -> Tensor:
        """Return the term, a scalar.

        Args:
            x: (N, d) embeddings, N >= 2 over all processes.
            same: (N,) long, e.g. the sample of each view; pairs of equal ids are left out.

        Raises:
            ValueError: ids that leave no pair.
        """
        if same is None:
            return self._of(x, x)
        group = self._group(len(x), x.device)
        check_rows("x", x, 2, group)
        ids = check_index(same).to(x.device)
        if len(ids) != len(x):
            raise ValueError(f"same must name each of {len(x)} rows, got {len(ids)}")
        every = ids if group is None else group.gather(ids, group.rows)
        left = len(every) ** 2 - int(every.unique(return_counts=True)[1].square().sum())
        if not left:
            raise ValueError("same= leaves no pair of rows: all have one id")
        with torch.autocast(x.device.type, enabled=False):
            x = within_range(x)
            per_row = off_diagonal_lse(x, x, 2 * self.t, group, same=(ids, every))
            return batch_log_sum_exp(per_row, group) - 2 * self.t - math.log(left)


class CrossUniformity(_Potential):
    """Log of the mean Gaussian potential of pairs of two sides that do not match.

    U(x, y) = log mean_{i≠j} exp(−t ‖x_i − y_j‖²), rows scaled to length 1. Lower values push the
    two modalities apart everywhere but at matching pairs, which lets the gap between them close.
    Fahim et al. 2024, "It's Not a Modality Gap".

    Args:
        t: sharpness of the potential, > 0; published: 2.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: t that is not above 0.
    """

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the term, a scalar.

        Args:
            x: (N, d) embeddings of one side, N >= 2 over all processes.
            y: (N, d) embeddings of the other; x[i] and y[i] match.
        """
        check_pairs(x, y)
        return self._of(x, y)
