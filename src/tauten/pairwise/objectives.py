"""Objectives of both sides of a square S, whose diagonal is the positives.

Shapes: s (N, N); results (2, N), of the rows and of the columns. A number is (), of all anchors;
(N,), of both anchors of each pair; or (2, N), of each anchor. ``out`` (K,) long are places i·N + j
of further pairs that are no negatives; each anchor has one that is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.pairwise.normal import SAFE_EXPONENT, raised
from tauten.pairwise.terms import LOST
from tauten.reads import FREE

#: the sides of S in the order of results, as the dimension of S that is summed away
_SIDES = (1, 0)


class Objective:
    """A number of each anchor, in closed form; :meth:`plain` is its formula."""

    def plain(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the results in operations that can be differentiated any number of times."""
        raise NotImplementedError

    def value(
        self, s: Tensor, *numbers: Tensor, out: Tensor | None = None
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the results, and what their derivatives need beside s and the numbers."""
        raise NotImplementedError

    def slope(
        self, s: Tensor, numbers: Sequence[Tensor], saved: Sequence[Tensor], cotangent: Tensor
    ) -> Tensor:
        """Return (N, N) the gradient of s, from that of the results."""
        raise NotImplementedError

    def of_numbers(
        self,
        s: Tensor,
        numbers: Sequence[Tensor],
        saved: Sequence[Tensor],
        cotangent: Tensor,
        pull: Tensor,
    ) -> list[Tensor]:
        """Return the gradients of the numbers, each (2, N) or of the number's shape.

        Args:
            s: as given.
            numbers: as given.
            saved: of :meth:`value`.
            cotangent: cotangent of the results.
            pull: (N, N) s times its gradient.
        """
        raise NotImplementedError


class Gap(Objective):
    """z = LSE_{j≠i}(s_ij·a_i) − s_ii·a_i, how far all negatives lie above the positive."""

    def plain(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        (a,) = numbers
        logits = [_off(s * number, -math.inf, out) for number in sided(a)]
        sums = [side.logsumexp(dim) for side, dim in zip(logits, _SIDES, strict=True)]
        return torch.stack(sums) - s.diagonal() * a

    def value(
        self, s: Tensor, *numbers: Tensor, out: Tensor | None = None
    ) -> tuple[Tensor, Sequence[Tensor]]:
        (a,) = numbers
        total, weights, peaks = s.new_empty(2, s.shape[0]), [], []
        small = _small(a, s.shape[0])
        logits, before = s, None
        for number, dim, result in zip(sided(a), _SIDES, total.unbind(), strict=True):
            if number is not before:
                logits = _without_((s * number).fill_diagonal_(-math.inf), out, -math.inf)
            if not small:
                above, peak = raised(logits, dim, gaps=False)
                weights.append(above)
                peaks.append(peak.view(-1))
            elif number is not before:
                weights.append(logits.exp_())
            torch.sum(weights[-1], dim, out=result)
            before = number
        log = total.log()
        if peaks:
            log += torch.stack(peaks)
        return log.sub_(s.diagonal() * a), (total, *weights)

    def slope(
        self, s: Tensor, numbers: Sequence[Tensor], saved: Sequence[Tensor], cotangent: Tensor
    ) -> Tensor:
        (a,), (total, *weights) = numbers, saved
        scaled = cotangent * a
        grad = _spread(weights, scaled / total)
        grad.diagonal().sub_(scaled.sum(0))
        return grad

    def of_numbers(
        self,
        s: Tensor,
        numbers: Sequence[Tensor],
        saved: Sequence[Tensor],
        cotangent: Tensor,
        pull: Tensor,
    ) -> list[Tensor]:
        (a,) = numbers
        return [pull.sum() / a if a.dim() == 0 else _heights(s, saved) * cotangent]


class GapAndHeight(Gap):
    """z of :class:`Gap`, and the mean of s_ij − s_ii under its weights, detached: (4, N).

    The mean is ∂z_i/∂a_i, and what the robust objective's temperatures learn from.
    """

    def plain(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        values = self.value(s.detach(), *(number.detach() for number in numbers), out=out)[0]
        return torch.cat((super().plain(s, *numbers, out=out), values[2:]))

    def value(
        self, s: Tensor, *numbers: Tensor, out: Tensor | None = None
    ) -> tuple[Tensor, Sequence[Tensor]]:
        z, saved = super().value(s, *numbers, out=out)
        return torch.cat((z, _heights(s, saved))), saved

    def slope(
        self, s: Tensor, numbers: Sequence[Tensor], saved: Sequence[Tensor], cotangent: Tensor
    ) -> Tensor:
        return super().slope(s, numbers, saved, cotangent[:2])

    def of_numbers(
        self,
        s: Tensor,
        numbers: Sequence[Tensor],
        saved: Sequence[Tensor],
        cotangent: Tensor,
        pull: Tensor,
    ) -> list[Tensor]:
        return super().of_numbers(s, numbers, saved, cotangent[:2], pull)


class Hinges(Objective):
    """Σ_{j≠i} [s_ij − s_ii + m_i]₊, by how much negatives come nearer than the margin m."""

    def plain(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        offsets = sided(numbers[0] - s.diagonal())
        hinges = [_off(F.relu(s + offset), 0.0, out) for offset in offsets]
        return torch.stack([side.sum(dim) for side, dim in zip(hinges, _SIDES, strict=True)])

    def value(
        self, s: Tensor, *numbers: Tensor, out: Tensor | None = None
    ) -> tuple[Tensor, Sequence[Tensor]]:
        results, violated = s.new_empty(2, s.shape[0]), []
        offsets = sided(numbers[0] - s.diagonal())
        for offset, dim, result in zip(offsets, _SIDES, results.unbind(), strict=True):
            hinges = _without_((s + offset).relu_().fill_diagonal_(0.0), out, 0.0)
            torch.sum(hinges, dim, out=result)
            violated.append(hinges.sign_())
        return results, violated

    def slope(
        self, s: Tensor, numbers: Sequence[Tensor], saved: Sequence[Tensor], cotangent: Tensor
    ) -> Tensor:
        grad = _spread(saved, cotangent)
        of_rows, of_cols = _sums(saved) * cotangent
        grad.diagonal().sub_(of_rows).sub_(of_cols)
        return grad

    def of_numbers(
        self,
        s: Tensor,
        numbers: Sequence[Tensor],
        saved: Sequence[Tensor],
        cotangent: Tensor,
        pull: Tensor,
    ) -> list[Tensor]:
        return [_sums(saved) * cotangent]


class Sigmoids(Objective):
    """Σ_j softplus(∓(s_ij·a_i + b_i)), each pair judged alone; minus for the positive j = i."""

    def plain(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, b = numbers
        results = []
        for slope, offset, dim in zip(sided(a), sided(b), _SIDES, strict=True):
            logits = s * slope + offset
            diagonal = torch.eye(s.shape[0], dtype=torch.bool, device=s.device)
            judged = torch.where(diagonal, -logits, logits)
            results.append(_without_(F.softplus(judged, threshold=LOST), out, 0.0).sum(dim))
        return torch.stack(results)

    def value(
        self, s: Tensor, *numbers: Tensor, out: Tensor | None = None
    ) -> tuple[Tensor, Sequence[Tensor]]:
        a, b = numbers
        results, saved, before = s.new_empty(2, s.shape[0]), [], None
        losses = s
        both = zip(sided(a), sided(b), strict=True)
        for given, dim, result in zip(both, _SIDES, results.unbind(), strict=True):
            if before is None or given[0] is not before[0] or given[1] is not before[1]:
                logits = torch.addcmul(given[1], s, given[0])
                logits.diagonal().neg_()
                losses = _without_(F.softplus(logits, threshold=LOST), out, 0.0)
                chances = _without_(logits.sigmoid_(), out, 0.0)
                chances.diagonal().neg_()
                saved.append(chances)
            torch.sum(losses, dim, out=result)
            before = given
        return results, saved

    def slope(
        self, s: Tensor, numbers: Sequence[Tensor], saved: Sequence[Tensor], cotangent: Tensor
    ) -> Tensor:
        return _spread(saved, cotangent * numbers[0])

    def of_numbers(
        self,
        s: Tensor,
        numbers: Sequence[Tensor],
        saved: Sequence[Tensor],
        cotangent: Tensor,
        pull: Tensor,
    ) -> list[Tensor]:
        a, chances = numbers[0], _two(saved)
        of_b = _sums(chances)
        if a.dim() == 0:
            return [pull.sum() / a, of_b * cotangent]
        of_a = torch.stack([(c * s).sum(d) for c, d in zip(chances, _SIDES, strict=True)])
        return [of_a * cotangent, of_b * cotangent]


def sided(number: Tensor) -> tuple[Tensor, Tensor]:
    """Return a number as it broadcasts against s for rows and for columns; one object if equal."""
    if number.dim() == 0:
        return number, number
    rows, cols = number.unbind() if number.dim() == 2 else (number, number)
    return rows.unsqueeze(1), cols.unsqueeze(0)


def _small(a: Tensor, size: int) -> bool:
    """Return whether exp(s·a) can be summed as it is, |s| <= 1; a GPU is not asked."""
    if a.device.type not in FREE:
        return False
    largest = a if a.dim() == 0 else a.abs().max()
    return abs(largest.item()) <= SAFE_EXPONENT - math.log(size)


def _sums(derivatives: Sequence[Tensor]) -> Tensor:
    """Return (2, N) the sums of the derivatives of rows and of columns."""
    return torch.stack([side.sum(dim) for side, dim in zip(derivatives, _SIDES, strict=True)])


def _heights(s: Tensor, saved: Sequence[Tensor]) -> Tensor:
    """Return (2, N) mean of s_ij − s_ii under the weights of a gap."""
    total, *weights = saved
    sums = [(w * s).sum(dim) for w, dim in zip(_two(weights), _SIDES, strict=True)]
    return torch.stack(sums).div_(total).sub_(s.diagonal())


def _spread(weights: Sequence[Tensor], factor: Tensor) -> Tensor:
    """Return the weights of rows times their factors, plus those of columns times theirs."""
    rows, cols = factor.unbind()
    if len(weights) == 1:
        return weights[0] * (rows.unsqueeze(1) + cols)
    return (weights[0] * rows.unsqueeze(1)).addcmul_(weights[1], cols)


def _two(shared: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return what rows and columns have, which may be one."""
    return shared if len(shared) == 2 else [shared[0], shared[0]]


def _off(values: Tensor, number: float, out: Tensor | None) -> Tensor:
    """Return the values (N, N) with a number on the diagonal and at further places."""
    diagonal = torch.eye(values.shape[0], dtype=torch.bool, device=values.device)
    return _without_(values.masked_fill(diagonal, number), out, number)


def _without_(values: Tensor, out: Tensor | None, number: float) -> Tensor:
    """Return the values (N, N), overwritten by a number at these places."""
    if out is not None:
        values.view(-1).index_fill_(0, out, number)
    return values
