"""Mixtures of samples with continuous labels, as positives and negatives (SupReMix)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import few, finite, whole
from tauten.pairwise.sides import EPSILON


@dataclass(frozen=True)
class LabelMixtures:
    """Mixtures of each anchor's own.

    Attributes:
        vectors: (N, K, d) without a gradient.
        labels: (N, K) the label of each mixture.
        positive: (K,) bool, which of them are positives, whose labels are those of the anchors.
        missing: (N, K) bool, True where there is none.
    """

    vectors: Tensor
    labels: Tensor
    positive: Tensor
    missing: Tensor


class LabelMixer:
    """Mixtures with and without the anchor, for labels that are numbers.

        negative  λ·z_i + (1 − λ)·z_k,  λ ~ Beta(2, 8),  y_k ≠ y_i         with the anchor
        positive  λ·z_j + (1 − λ)·z_k,  λ = (y_k − y_i)/(y_k − y_j),  y_j < y_i < y_k    of others

    so that the label of a positive, mixed alike, is y_i; y_j and y_k lie within a window around it.
    Rows are scaled to length 1 before they are mixed. SupReMix (Wu et al. 2023). An anchor without
    such partners lacks the mixture.

    Args:
        negatives: negatives of each anchor, >= 0.
        positives: positives of each anchor, >= 0.
        window: largest distance of y_j and y_k from y_i, > 0.
        beta: both parameters of λ; published: (2, 8).

    Raises:
        ValueError: no mixtures at all, or numbers out of range.
    """

    def __init__(
        self,
        negatives: int = 8,
        positives: int = 8,
        *,
        window: float = math.inf,
        beta: tuple[float, float] = (2.0, 8.0),
    ) -> None:
        self.negatives = whole("negatives", negatives, 0)
        self.positives = whole("positives", positives, 0)
        if not self.negatives + self.positives:
            raise ValueError(
                "LabelMixer needs negatives or positives above 0: leave it out instead"
            )
        if not window > 0:
            raise ValueError(f"window must be > 0, got {window!r}")
        self.window, self.beta = float(window), tuple(finite("beta", part) for part in beta)
        if len(self.beta) != 2 or min(self.beta) <= 0:
            raise ValueError(f"beta must be two numbers > 0, got {beta!r}")

    @torch.no_grad()
    def __call__(
        self, z: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> LabelMixtures:
        """Return the mixtures of each row.

        Args:
            z: (N, d).
            labels: (N,) numbers.
            generator: generator of the random numbers, on the CPU.

        Raises:
            ValueError: labels that do not fit, or are not finite.
        """
        y = numbers_of(labels, len(z)).to(z.device, torch.float64)
        units = F.normalize(z.detach(), dim=1, eps=EPSILON)
        gap = y[None] - y[:, None]  # of row j from row i
        near = gap.abs() <= self.window
        other, no_other = _drawn(gap != 0, self.negatives, generator)
        below, none_below = _drawn((gap < 0) & near, self.positives, generator)
        above, none_above = _drawn((gap > 0) & near, self.positives, generator)
        gammas = [
            torch._standard_gamma(torch.full(other.shape, part), generator=generator)
            for part in self.beta
        ]
        share = (gammas[0] / (gammas[0] + gammas[1])).to(y)
        of_others = (y[above] - y[:, None]) / (y[above] - y[below]).where(~none_below, 1.0)
        share = torch.cat([share, of_others.clamp(0, 1)], dim=1)
        rows = torch.arange(len(z), device=z.device)[:, None].expand(other.shape)
        first, second = torch.cat([rows, below], dim=1), torch.cat([other, above], dim=1)
        part = share.to(units).unsqueeze(2)
        positive = torch.zeros(share.shape[1], dtype=torch.bool, device=z.device)
        positive[self.negatives :] = True
        return LabelMixtures(
            part * units[first] + (1 - part) * units[second],
            share * y[first] + (1 - share) * y[second],
            positive,
            torch.cat([no_other, none_below | none_above], dim=1),
        )


def _drawn(
    allowed: Tensor, number: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Return (N, number) columns drawn from those allowed of each row, and where there are none."""
    counts = allowed.sum(1, keepdim=True)
    ordered = allowed.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    share = torch.rand(len(allowed), number, generator=generator).to(allowed.device)
    place = (share * counts).long().clamp(max=max(allowed.shape[1] - 1, 0))
    return ordered.gather(1, place), (counts == 0).expand(len(allowed), number)


def numbers_of(labels: Tensor, rows: int) -> Tensor:
    """Return labels that are numbers, detached.

    Args:
        labels: (N,).
        rows: N.

    Raises:
        ValueError: no vector of that length, or numbers that are not real and finite.
    """
    if not isinstance(labels, Tensor) or labels.shape != (rows,) or labels.is_complex():
        got = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else labels
        raise ValueError(f"labels must be ({rows},) finite numbers, a tensor, got {got!s:.60}")
    bad = (~labels.detach().isfinite()).nonzero().squeeze(1).tolist()
    if bad:
        raise ValueError(f"labels are NaN or infinite in rows {few(bad)}: leave these rows out")
    return labels.detach()
