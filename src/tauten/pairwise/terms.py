"""Elementwise functions φ(s; numbers) of the pair matrix.

Shapes: s (n, m) a tile of the pair matrix; each number (n, 1), (1, m) or (1, 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

#: z above which log(1 + exp(z)) is z, in float64 too
LOST = 40.0


@dataclass
class Slopes:
    """The derivatives of φ on a tile.

    Attributes:
        tile: (n, m), and
        vector: broadcastable to it; ∂φ/∂s = tile · vector, where None stands for 1.
        numbers: for each number ∂φ/∂number as (n, m), or None where it was not asked for.
    """

    tile: Tensor | None
    vector: Tensor | None
    numbers: list[Tensor | None]


class Term:
    """φ(s; numbers), elementwise in s.

    A subclass gives :meth:`value` in differentiable operations. :meth:`slopes` then follows by
    autograd inside the tile; the terms below state it in closed form, which is faster.
    """

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        """Return φ on a tile, (n, m); written to ``out`` if the term can."""
        raise NotImplementedError

    def slopes(self, s: Tensor, numbers: Sequence[Tensor], needs: Sequence[bool]) -> Slopes:
        """Return the derivatives of φ with respect to s and to the numbers asked for."""
        with torch.enable_grad():
            leaf = s.detach().requires_grad_()
            wide = [
                number.detach().expand_as(s).clone().requires_grad_() if need else number.detach()
                for number, need in zip(numbers, needs, strict=True)
            ]
            total = self.value(leaf, *wide).sum()
        wanted = [leaf, *(w for w, need in zip(wide, needs, strict=True) if need)]
        first, *rest = torch.autograd.grad(total, wanted, allow_unused=True)
        found = iter(rest)
        return Slopes(
            tile=torch.zeros_like(s) if first is None else first,
            vector=None,
            numbers=[next(found) if need else None for need in needs],
        )

    def bound(self, s_max: float, numbers: Sequence[Tensor]) -> float | None:
        """Return the largest |φ| where |s| <= s_max, or None if unknown."""
        return None


@dataclass(frozen=True)
class Scaled(Term):
    """s · a, with a = 1/τ a logit."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mul(s, numbers[0], out=out)

    def slopes(self, s: Tensor, numbers: Sequence[Tensor], needs: Sequence[bool]) -> Slopes:
        return Slopes(None, numbers[0], [s if needs[0] else None])

    def bound(self, s_max: float, numbers: Sequence[Tensor]) -> float | None:
        number = numbers[0]
        if number.numel() < 2:
            return s_max * abs(number.item()) if number.numel() else 0.0
        values = number.detach() if number.requires_grad else number
        largest: Tensor = torch.linalg.vector_norm(values, math.inf)
        return s_max * largest.item()


@dataclass(frozen=True)
class Hinge(Term):
    """[s + c]₊, with c = m − s⁺ the max-margin violation."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        return F.relu(torch.add(s, numbers[0], out=out), inplace=out is not None)

    def slopes(self, s: Tensor, numbers: Sequence[Tensor], needs: Sequence[bool]) -> Slopes:
        violated = torch.gt(s, -numbers[0], out=torch.empty_like(s))
        return Slopes(violated, None, [violated if needs[0] else None])


@dataclass(frozen=True)
class Active(Term):
    """1[s + c > 0], the count of violated hinges; it has no gradient."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        return (s > -numbers[0]).to(s.dtype) if out is None else torch.gt(s, -numbers[0], out=out)

    def slopes(self, s: Tensor, numbers: Sequence[Tensor], needs: Sequence[bool]) -> Slopes:
        zero = torch.zeros_like(s)
        return Slopes(zero, None, [zero if needs[0] else None])


@dataclass(frozen=True)
class Softplus(Term):
    """log(1 + exp(s·a + b)), the loss of a negative pair of a sigmoid classifier."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, b = numbers
        return F.softplus(torch.addcmul(b, s, a, out=out), threshold=LOST)

    def slopes(self, s: Tensor, numbers: Sequence[Tensor], needs: Sequence[bool]) -> Slopes:
        a, b = numbers
        chance = torch.addcmul(b, s, a).sigmoid_()
        return Slopes(chance, a, [chance * s if needs[0] else None, chance if needs[1] else None])


@dataclass(frozen=True)
class Tilted(Term):
    """s · exp(s·a − c); with c the log-sum-exp of s·a its sum is the mean of s under softmax."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, c = numbers
        if out is None:
            return s * torch.exp(s * a - c)
        return torch.mul(s, a, out=out).sub_(c).exp_().mul_(s)


@dataclass(frozen=True)
class Offset(Term):
    """(s − c) · a, a logit whose candidates have offsets c."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, c = numbers
        return torch.sub(s, c, out=out).mul_(a) if out is not None else (s - c) * a


@dataclass(frozen=True)
class Weight(Term):
    """exp((s − c)·a − k); with k the log of the row's partition it is the weight of the pair."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, c, k = numbers
        if out is None:
            return torch.exp((s - c) * a - k)
        return torch.sub(s, c, out=out).mul_(a).sub_(k).exp_()


@dataclass(frozen=True)
class One(Term):
    """1, to count the pairs that are not masked."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.ones_like(s)

    def slopes(self, s: Tensor, numbers: Sequence[Tensor], needs: Sequence[bool]) -> Slopes:
        return Slopes(torch.zeros_like(s), None, [])
