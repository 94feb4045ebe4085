"""Weights of pairs from a teacher, a kernel, a table of kinds, or a matrix.

Shapes: n rows and m columns of a tile of the pair matrix (N, M).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import finite, flag
from tauten.pairwise import PairNumber
from tauten.pairwise.exchange import Ranks
from tauten.pairwise.sides import EPSILON
from tauten.relations.pair_weights import PairWeights, PartOfWeights


class Teacher(PairWeights):
    """Softmax of a teacher's similarities: w_ij = exp(cos(u_i, v_j) / τ).

    The momentum distillation of ALBEF (share 0.4) and the soft targets of self-distillation; with
    ``keys=`` the teacher's embeddings are the keys, ``Teacher(keys.x, keys.y, tau, share=0.4)``.

    Args:
        u: (N, d) the teacher's embeddings of x.
        v: (M, d) the teacher's embeddings of y.
        tau: temperature of the teacher, > 0; that of the loss stays as it is.
        share: share of the target, in [0, 1].
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
        share: share of the target, in [0, 1].

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
        share: share of the target, in [0, 1].

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
        share: share of the target, in [0, 1].

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
        return PartOfWeights(self, self.rows, cols, turned=False).number(
            name, size, like, ranks, log=log
        )


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
