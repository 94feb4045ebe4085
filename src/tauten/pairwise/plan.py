"""The plan of a sweep over the pair matrix: which φ are evaluated, and what they add to.

    sum:        ∂r_i/∂φ_ij = 1
    logsumexp:  ∂r_i/∂φ_ij = exp(φ_ij − r_i)

Where |φ| is known to stay small (cosines over a moderate τ), exp(φ) can neither overflow nor
vanish, so that it is summed as it is and shared between rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tauten.pairwise.leaves import check_leaves, check_numbers
from tauten.pairwise.masks import PairMask
from tauten.pairwise.normal import SAFE_EXPONENT, least
from tauten.pairwise.reduction import Reduction, Shared, compute_dtype, shared
from tauten.pairwise.sides import Side
from tauten.reads import FREE


@dataclass(frozen=True)
class Group(Shared):
    """Reductions that share φ, and how their exponentials are summed.

    Attributes:
        small: whether exp(φ) is summed as it is.
    """

    small: bool


@dataclass(frozen=True)
class Plan:
    """A plan of the reductions and of the way to compute them.

    Attributes:
        dims: for each reduction the dimension of S that is summed away.
        groups: reductions that share φ.
        mask: pairs to leave out.
        tile: rows and columns of a tile.
        cosine: whether rows are scaled to length 1.
        dtype: precision of the reductions.
    """

    dims: tuple[int, ...]
    groups: tuple[Group, ...]
    mask: PairMask | None
    tile: tuple[int, int]
    cosine: bool
    dtype: torch.dtype

    def side(self, vectors: Tensor) -> Side:
        """Return vectors as the reductions see them."""
        return Side(vectors, self.dtype, cosine=self.cosine)

    def logarithmic(self, at: int) -> bool:
        """Return whether a result is a log-sum-exp."""
        return any(at in group.members and group.how == "logsumexp" for group in self.groups)

    def online(self, at: int) -> bool:
        """Return whether a result is accumulated as a log-sum-exp, and not as a sum."""
        (group,) = (group for group in self.groups if at in group.members)
        return group.how == "logsumexp" and not group.small

    def empty(self, left: Side, cols: int) -> list[Tensor]:
        """Return results over no pair: (N,) or (M,) for each reduction."""
        return [
            left.vectors.new_full(
                (len(left) if dim == 1 else cols,),
                -math.inf if self.online(at) else 0.0,
                dtype=left.dtype,
            )
            for at, dim in enumerate(self.dims)
        ]

    def finish(self, results: Sequence[Tensor], which: Iterable[int]) -> None:
        """Turn sums of exponentials into logarithms, in place."""
        small = {at for group in self.groups if group.small for at in group.members}
        for at in which:
            if at in small:
                results[at].log_()

    def factors(self, results: Sequence[Tensor], cotangents: Sequence[Tensor]) -> list[Tensor]:
        """Return the factor of each pair's weight: the cotangent, over exp(result) if small."""
        factors = [
            torch.hardshrink(c, least(c.dtype)).unsqueeze(dim)
            for c, dim in zip(cotangents, self.dims, strict=True)
        ]
        for group in self.groups:
            for at in group.members if group.how == "logsumexp" else ():
                result = results[at].unsqueeze(self.dims[at])
                empty = result == -math.inf
                if group.small:
                    factors[at] = factors[at] * torch.exp(-result)
                factors[at] = factors[at].masked_fill(empty, 0.0)
        return factors


def make_plan(
    x: Tensor,
    y: Tensor,
    reductions: Sequence[Reduction],
    mask: PairMask | None,
    *,
    tile: tuple[int, int],
    cosine: bool,
    cols: int | None = None,
) -> tuple[Plan, list[Tensor]]:
    """Return the plan for each tile, and the distinct numbers.

    The arguments are those of :func:`reduce_pairs`; ``cols`` is the number of columns where y does
    not have all of them.
    """
    found, numbers = shared(reductions)
    dtype = compute_dtype(x, y)
    if torch.is_grad_enabled():
        check_numbers(numbers)
    room = SAFE_EXPONENT - math.log(max(len(x), len(y) if cols is None else cols, 1))
    groups = []
    for part in found:
        used = [numbers[k] for k in part.numbers]
        readable = cosine and x.device.type in FREE
        limit = part.term.bound(1.0, used) if readable else None
        small = part.how == "logsumexp" and limit is not None and limit <= room
        if torch.is_grad_enabled():
            check_leaves(part.term, used, dtype)
        groups.append(Group(part.term, part.how, part.numbers, part.members, small))
    dims = tuple(r.dim for r in reductions)
    return Plan(dims, tuple(groups), mask, tile, cosine, dtype), numbers


@dataclass(frozen=True)
class Gradients:
    """Gradients that the backward sweep adds up, of the rows of x and of the numbers."""

    x: Tensor | None
    numbers: list[Tensor | None]

    @classmethod
    def zeros(
        cls, plan: Plan, left: Side | None, numbers: Sequence[Tensor], needs: Sequence[bool]
    ) -> Gradients:
        """Return zeros for what is needed."""
        return cls(
            None if left is None else left.zeros(),
            [torch.zeros_like(n) if need else None for n, need in zip(numbers, needs, strict=True)],
        )

    def part(self) -> Gradients:
        """Return the same sums, but with room of its own for what all rows and columns add to."""
        return Gradients(
            self.x,
            [
                torch.zeros_like(n) if n is not None and n.shape == (1, 1) else n
                for n in self.numbers
            ],
        )

    def join(self, part: Gradients) -> None:
        """Add what a part had room of its own for."""
        for whole, mine in zip(self.numbers, part.numbers, strict=True):
            if whole is not None and mine is not None and mine is not whole:
                whole += mine
