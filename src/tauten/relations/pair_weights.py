"""A weight of each pair of a batch, made tile by tile from what is known of the two samples.

Shapes: n rows and m columns of a tile of the pair matrix (N, M).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tauten.checks import finite
from tauten.pairwise import PairNumber
from tauten.pairwise.exchange import Ranks

Rule = Callable[[Tensor, Tensor], Tensor]


class PairWeights:
    """A weight w_ij >= 0 of each pair, held fixed: rule(rows, cols) on a tile.

    As ``targets=`` the target of anchor i is the weights of its candidates over their sum, rows for
    the anchors of x and columns for those of y. No (N, M) matrix is held when the loss works in
    tiles.

    Args:
        rows: (N, ...) what is known of each row of x: a label, codes, an embedding.
        cols: (M, ...) the same of each row of y; with ``keys=`` both are of all keys.
        rule: of (n, ...) and (m, ...) to (n, m) weights >= 0; called from several threads at once.
        share: of the target, in [0, 1], that these weights make; the rest goes to the anchor's own
            positives, as without ``targets=``. 0 changes nothing.

    Raises:
        ValueError: rows or columns that are no tensors, or a share outside [0, 1].
    """

    def __init__(self, rows: Tensor, cols: Tensor, rule: Rule, *, share: float = 1.0) -> None:
        name = type(self).__name__
        for side, values in (("rows", rows), ("columns", cols)):
            if not isinstance(values, Tensor) or not values.dim() or values.is_complex():
                shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                raise ValueError(f"{name} needs a tensor (N, ...) of its {side}, got {shape}")
        if not callable(rule):
            raise ValueError(f"{name} needs a rule of rows and columns, got {rule!r}")
        self.rows, self.cols, self.rule = rows.detach(), cols.detach(), rule
        self.share = finite(f"{name}'s share", share)
        if not 0 <= self.share <= 1:
            raise ValueError(f"{name}'s share must be in [0, 1], got {share!r}")

    def log_weights(self, rows: Tensor, cols: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return (n, m) log w_ij of a tile, taken in this precision."""
        weights = self._by_rule(rows, cols)
        return torch.log(weights if dtype is None else weights.to(dtype))

    def weights(self, rows: Tensor, cols: Tensor) -> Tensor:
        """Return (n, m) w_ij of a tile; NaN where it is below 0."""
        weights = self._by_rule(rows, cols)
        return weights.masked_fill(weights < 0, torch.nan)

    def known(self, side: Tensor, like: Tensor) -> Tensor:
        """Return what is known of one side as the rule takes it, where the reductions are."""
        return (
            side.to(like.device, like.dtype) if side.is_floating_point() else side.to(like.device)
        )

    def _by_rule(self, rows: Tensor, cols: Tensor) -> Tensor:
        weights, shape = self.rule(rows, cols), (len(rows), len(cols))
        if not isinstance(weights, Tensor) or weights.shape != shape:
            got = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
            raise ValueError(
                f"the rule of {type(self).__name__} must give a tensor of the weights of all pairs "
                f"of its {shape[0]} rows and {shape[1]} columns, {shape}, got {got}"
            )
        return weights

    def of_keys(self, anchors: int) -> tuple[PairWeights, PairWeights]:
        """Return the weights of the first keys of x against those of y, and the other way round."""
        return (
            PartOfWeights(self, self.rows[:anchors], self.cols, turned=False),
            PartOfWeights(self, self.cols[:anchors], self.rows, turned=True),
        )

    def number(
        self,
        name: str,
        size: tuple[int, int],
        like: Tensor,
        ranks: Ranks | None,
        *,
        log: bool = True,
    ) -> PairNumber:
        """Return log w_ij, or w_ij, as a number of each pair.

        Args:
            name: name of the keyword that they were given for.
            size: rows and columns of this process.
            like: of the precision and device of the reductions.
            ranks: the processes, whose columns are brought together.
            log: whether the logarithm is asked for.

        Raises:
            ValueError: rows or columns of another length.
        """
        lengths = len(self.rows), len(self.cols)
        if lengths != size:
            raise ValueError(
                f"{name}= must say something of each of {size[0]} rows of x and {size[1]} of y, "
                f"got {lengths[0]} and {lengths[1]}"
            )
        rows, cols = (self.known(side, like) for side in (self.rows, self.cols))
        if ranks is not None:
            cols = ranks.gather(cols)
        of_tile = partial(self.log_weights, dtype=like.dtype) if log else self.weights
        return PairNumber(_Tile(of_tile), (rows.unsqueeze(1), cols.unsqueeze(0)))


class PartOfWeights(PairWeights):
    """The same weights of some of the samples, or with the sides exchanged."""

    def __init__(self, whole: PairWeights, rows: Tensor, cols: Tensor, *, turned: bool) -> None:
        super().__init__(rows, cols, whole.rule, share=whole.share)
        self.whole, self.turned = whole, turned

    def known(self, side: Tensor, like: Tensor) -> Tensor:
        return self.whole.known(side, like)

    def log_weights(self, rows: Tensor, cols: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return self._turned(partial(self.whole.log_weights, dtype=dtype), rows, cols)

    def weights(self, rows: Tensor, cols: Tensor) -> Tensor:
        return self._turned(self.whole.weights, rows, cols)

    def _turned(self, of_tile: Rule, rows: Tensor, cols: Tensor) -> Tensor:
        return of_tile(cols, rows).T if self.turned else of_tile(rows, cols)


class _Tile:
    """A number of pairs made of their rows and columns, which are no rules of s.

    The last tile is kept for the next term that needs it, in each thread, so that it is made once.
    """

    def __init__(self, of_tile: Rule) -> None:
        self.of_tile = of_tile
        self.last = threading.local()

    def __call__(self, s: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        place = rows.data_ptr(), cols.data_ptr(), s.shape, s.dtype
        if getattr(self.last, "place", None) != place:
            with torch.no_grad():
                self.last.value = self.of_tile(rows[:, 0], cols[0]).to(s)
            self.last.place = place
        value: Tensor = self.last.value
        return value
