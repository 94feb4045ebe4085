"""Weights of the pairs of a batch, made tile by tile from what is known of the two samples.

Shapes: n rows and m columns of a tile of the pair matrix (N, M).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import finite, flag
from tauten.pairwise import PairNumber
from tauten.pairwise.exchange import Ranks
from tauten.pairwise.sides import EPSILON

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
            _Part(self, self.rows[:anchors], self.cols, turned=False),
            _Part(self, self.cols[:anchors], self.rows, turned=True),
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
            name: of the keyword that they were given for.
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


class Teacher(PairWeights):
    """Softmax of a teacher's similarities: w_ij = exp(cos(u_i, v_j) / τ).

    The momentum distillation of ALBEF (share 0.4) and the soft targets of self-distillation; with
    ``keys=`` the teacher's embeddings are the keys, ``Teacher(keys.x, keys.y, tau, share=0.4)``.

    Args:
        u: (N, d) the teacher's embeddings of x.
        v: (M, d) the teacher's embeddings of y.
        tau: temperature of the teacher, > 0; that of the loss stays as it is.
        share: of the target, in [0, 1].
        normalize: whether rows are scaled to length 1; otherwise cos is the dot product.

    Raises:
        ValueError: embeddings that do not fit, a temperature that is not > 0, a share outside
            [0, 1].
    """

    def __init__(
        self,
        u: Tensor,
        v: Tensor,
        tau: float = 0.07,
        *,
        share: float = 1.0,
        normalize: bool = True,
    ) -> None:
        self.tau = finite("Teacher's tau", tau)
        if self.tau <= 0:
            raise ValueError(f"Teacher's tau must be > 0, got {tau!r}")
        self.normalize = flag("normalize", normalize)
        super().__init__(*_embeddings("Teacher", u, v), self._raised, share=share)

    def known(self, side: Tensor, like: Tensor) -> Tensor:
        return super().known(_units(side, like) if self.normalize else side, like)

    def log_weights(self, rows: Tensor, cols: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return (rows @ cols.T).div_(self.tau)

    def weights(self, rows: Tensor, cols: Tensor) -> Tensor:
        return self._raised(rows, cols)

    def _raised(self, rows: Tensor, cols: Tensor) -> Tensor:
        return self.log_weights(rows, cols).exp_()


class Kernel(PairWeights):
    """A function of the cosine of a second pair of embeddings: w_ij = of(cos(u_i, v_j)).

    By default w = (1 + cos)/2, the continuous weights of CWCL (Srinivasa et al. 2023), where u and
    v are both of the frozen modality.

    Args:
        u: (N, d) embeddings that stand for the rows of x.
        v: (M, d) embeddings that stand for the rows of y.
        of: of cosines (n, m) to weights >= 0.
        share: of the target, in [0, 1].

    Raises:
        ValueError: embeddings that do not fit, or a share outside [0, 1].
    """

    def __init__(
        self,
        u: Tensor,
        v: Tensor,
        of: Callable[[Tensor], Tensor] | None = None,
        *,
        share: float = 1.0,
    ) -> None:
        function = _half if of is None else of
        if not callable(function):
            raise ValueError(f"Kernel's of must be a function of cosines, got {of!r}")
        super().__init__(*_embeddings("Kernel", u, v), lambda a, b: function(a @ b.T), share=share)

    def known(self, side: Tensor, like: Tensor) -> Tensor:
        return super().known(_units(side, like), like)


class Codes(PairWeights):
    """Weights looked up in a table of kinds: w_ij = table[rows_i, cols_j].

    Args:
        table: (A, C) >= 0, of kinds of rows and kinds of columns.
        rows: (N,) long, the kind of each row of x.
        cols: (M,) long, the kind of each row of y.
        share: of the target, in [0, 1].

    Raises:
        ValueError: a table with numbers below 0, codes outside it, or a share outside [0, 1].
    """

    def __init__(self, table: Tensor, rows: Tensor, cols: Tensor, *, share: float = 1.0) -> None:
        self.table = _checked("Codes' table", table)
        for side, codes, size in (("rows", rows, len(table)), ("cols", cols, table.shape[1])):
            kind = codes.dtype if isinstance(codes, Tensor) else type(codes).__name__
            if kind not in _INTEGERS or codes.dim() != 1 or codes.layout is not torch.strided:
                raise ValueError(
                    f"Codes' {side} must be a vector of integers, the kind of each row, got {kind}"
                )
            if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < size:
                raise ValueError(
                    f"Codes' {side} must be in 0 .. {size - 1}, got {int(codes.min())} .. "
                    f"{int(codes.max())}"
                )
        super().__init__(rows, cols, self._look_up, share=share)

    def _look_up(self, rows: Tensor, cols: Tensor) -> Tensor:
        return _entries(self.table, rows, cols)


class Given(PairWeights):
    """A matrix of weights, (N, M); a plain tensor as ``targets=`` is one with the share 1.

    Args:
        matrix: (N, M) >= 0; over processes with the columns of all of them in their order.
        share: of the target, in [0, 1].

    Raises:
        ValueError: numbers below 0, or a share outside [0, 1].
    """

    def __init__(self, matrix: Tensor, *, share: float = 1.0) -> None:
        self.matrix = _checked("a matrix of weights", matrix)
        rows, cols = (torch.arange(size, device=matrix.device) for size in matrix.shape)
        super().__init__(rows, cols, self._look_up, share=share)

    def _look_up(self, rows: Tensor, cols: Tensor) -> Tensor:
        return _entries(self.matrix, rows, cols)

    def number(
        self,
        name: str,
        size: tuple[int, int],
        like: Tensor,
        ranks: Ranks | None,
        *,
        log: bool = True,
    ) -> PairNumber:
        whole = (size[0], size[1] if ranks is None else sum(ranks.cols))
        if tuple(self.matrix.shape) != whole:
            raise ValueError(f"{name}= must be a matrix {whole}, got {tuple(self.matrix.shape)}")
        cols = self.cols if ranks is None else self.cols[ranks.own]
        return _Part(self, self.rows, cols, turned=False).number(name, size, like, ranks, log=log)


class _Part(PairWeights):
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


#: what ``targets=`` may be
Weights = Tensor | PairWeights


def as_weights(name: str, given: Weights) -> PairWeights:
    """Return weights as an object; a matrix is one of its own.

    Raises:
        ValueError: neither a matrix nor weights.
    """
    if isinstance(given, PairWeights):
        return given
    if isinstance(given, Tensor):
        return Given(given)
    raise ValueError(
        f"{name}= must be a matrix (N, M) or of tauten.relations, such as Teacher(u, v, tau), got "
        f"{type(given).__name__}"
    )


def _entries(table: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Return (n, m) the entries of a table at rows (n,) and columns (m,)."""
    return table.to(rows.device).index_select(0, rows).index_select(1, cols)


def _half(cosines: Tensor) -> Tensor:
    return (0.5 + 0.5 * cosines).clamp(min=0)


def _units(side: Tensor, like: Tensor) -> Tensor:
    """Return rows of length 1, in the more precise of both."""
    return F.normalize(side.to(torch.promote_types(side.dtype, like.dtype)), dim=1, eps=EPSILON)


def _embeddings(name: str, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return both embeddings, checked."""
    shapes = [
        tuple(side.shape) if isinstance(side, Tensor) else type(side).__name__ for side in (u, v)
    ]
    if not isinstance(u, Tensor) or not isinstance(v, Tensor) or u.dim() != 2 or v.dim() != 2:
        raise ValueError(f"{name} needs embeddings u (N, d) and v (M, d), got {shapes}")
    if u.shape[1] != v.shape[1] or not (u.is_floating_point() and v.is_floating_point()):
        raise ValueError(f"{name} needs floating u (N, d) and v (M, d) of one width, got {shapes}")
    return u.detach(), v.detach()


#: types of numbers that name kinds
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _checked(name: str, matrix: Tensor) -> Tensor:
    if not isinstance(matrix, Tensor) or matrix.dim() != 2 or matrix.is_complex():
        shape = tuple(matrix.shape) if isinstance(matrix, Tensor) else type(matrix).__name__
        raise ValueError(f"{name} must be a matrix >= 0, got {shape}")
    if matrix.layout is not torch.strided:
        raise ValueError(f"{name} must be dense, got {matrix.layout}: pass its .to_dense()")
    matrix = matrix.detach()
    if not bool(((matrix >= 0) & matrix.isfinite()).all()):
        raise ValueError(
            f"{name} must be finite and >= 0, got {float(matrix.min())} .. {float(matrix.max())}"
        )
    return matrix if matrix.is_floating_point() else matrix.to(torch.get_default_dtype())
