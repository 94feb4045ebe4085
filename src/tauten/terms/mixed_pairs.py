"""Pair losses of mixtures whose labels are mixed too (Metrix)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import finite
from tauten.pairwise.sides import EPSILON, compute_dtype, within_range
from tauten.terms.base import Across, AddedTerm, batch_mean, check_rows

Function = Callable[[Tensor], Tensor]


class MixedPairs(AddedTerm):
    """Each anchor against mixtures of a positive and a negative, each of them in part.

    M = mean_i [ σ⁺(Σ_v λ_iv·ρ⁺(d_iv)) + σ⁻(Σ_v (1 − λ_iv)·ρ⁻(d_iv)) ]

    d_iv is the Euclidean distance of unit vectors. By default it is the contrastive loss, ρ⁺(d) =
    d, ρ⁻(d) = [m − d]₊ and σ the identity; other pair losses are other functions. With λ in {0, 1}
    it is the loss of the samples themselves. Metrix, "It Takes Two to Tango" (Venkataramanan et
    al., ICLR 2022), with m = 0.5 and λ ~ Beta(2, 2); mixtures are made with :func:`mixtures`.

    Args:
        margin: m >= 0.
        pull: ρ⁺ of distances, elementwise.
        push: ρ⁻.
        outer_pull: σ⁺ of (N,) sums.
        outer_push: σ⁻.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: a margin below 0.
    """

    def __init__(
        self,
        margin: float = 0.5,
        *,
        pull: Function | None = None,
        push: Function | None = None,
        outer_pull: Function | None = None,
        outer_push: Function | None = None,
        ranks: Across = "auto",
    ) -> None:
        super().__init__(ranks)
        self.margin = finite("margin", margin)
        if self.margin < 0:
            raise ValueError(f"margin must be >= 0, got {margin!r}")
        self.pull = pull or _same
        self.push = push or self._hinge
        self.outer_pull, self.outer_push = outer_pull or _same, outer_push or _same

    def forward(self, anchors: Tensor, mixed: Tensor, shares: Tensor) -> Tensor:
        """Return the term, a scalar.

        Args:
            anchors: (N, d).
            mixed: (N, K, d) mixtures of each anchor.
            shares: (N, K) in [0, 1], λ, how much of each mixture is a positive.

        Raises:
            ValueError: shapes that do not fit, or shares outside [0, 1].
        """
        group = self._group(len(anchors), anchors.device)
        check_rows("anchors", anchors, 1, group)
        if mixed.dim() != 3 or (len(mixed), mixed.shape[2]) != tuple(anchors.shape):
            raise ValueError(
                f"mixed must be ({len(anchors)}, K, {anchors.shape[1]}), got {tuple(mixed.shape)}"
            )
        if shares.shape != mixed.shape[:2] or not bool(((shares >= 0) & (shares <= 1)).all()):
            raise ValueError(f"shares must be {tuple(mixed.shape[:2])} in [0, 1]")
        with torch.autocast(anchors.device.type, enabled=False):
            dtype = compute_dtype(anchors, mixed)
            a = F.normalize(within_range(anchors).to(dtype), dim=1, eps=EPSILON)
            v = F.normalize(mixed.to(dtype), dim=2, eps=EPSILON)
            squared = (a.unsqueeze(1) - v).square().sum(2)
            apart = ~(squared <= 0)  # the root has no gradient where two coincide
            d = squared.where(apart, torch.ones_like(squared)).sqrt() * apart
            y = shares.detach().to(dtype)
            pulled = self.outer_pull((y * self.pull(d)).sum(1))
            return batch_mean(pulled + self.outer_push(((1 - y) * self.push(d)).sum(1)), group)

    def _hinge(self, distance: Tensor) -> Tensor:
        return F.relu(self.margin - distance)

    def extra_repr(self) -> str:
        return f"margin={self.margin:g}"


def mixtures(
    positives: Tensor,
    negatives: Tensor,
    beta: float = 2.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return λ·p + (1 − λ)·n and λ ~ Beta(beta, beta), one of each pair.

    Args:
        positives: (N, K, ...) of each anchor: inputs, features, or embeddings.
        negatives: the same of negatives.
        beta: > 0; published: 2.
        generator: generator of the random numbers, on the CPU.

    Returns:
        (N, K, ...) and (N, K).

    Raises:
        ValueError: shapes that differ, or a beta that is not above 0.
    """
    if finite("beta", beta) <= 0:
        raise ValueError(f"beta must be > 0, got {beta!r}")
    if positives.shape != negatives.shape or positives.dim() < 2:
        raise ValueError(
            f"positives and negatives must be of one shape (N, K, ...), got "
            f"{tuple(positives.shape)} and {tuple(negatives.shape)}"
        )
    size = positives.shape[:2]
    drawn = torch._standard_gamma(torch.full((2, *size), beta), generator=generator)
    share = (drawn[0] / drawn.sum(0)).to(positives)
    wide = share.view(*size, *[1] * (positives.dim() - 2))
    return wide * positives + (1 - wide) * negatives, share


def _same(values: Tensor) -> Tensor:
    return values
