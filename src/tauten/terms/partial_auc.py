"""Area under the ROC curve, the whole of it or its part that counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import finite
from tauten.pairwise.exchange import gather_columns
from tauten.pairwise.sides import compute_dtype
from tauten.terms.base import Across, AddedTerm, positive

Surrogate = Literal["squared_hinge", "squared", "hinge", "logistic"]

#: ℓ of the margin and the amount by which a positive wins
_SURROGATES: dict[str, Callable[[float, Tensor], Tensor]] = {
    "squared_hinge": lambda margin, won: F.relu(margin - won).square(),
    "squared": lambda margin, won: (margin - won).square(),
    "hinge": lambda margin, won: F.relu(margin - won),
    "logistic": lambda margin, won: F.softplus(-margin * won),
}


class PartialAUC(AddedTerm):
    """Smooth loss of positives that score below negatives, the hardest negatives first.

    A = mean_i λ·log mean_j exp(ℓ(s_i − s_j)/λ)                    positives i, negatives j
    A = μ·log mean_i ( mean_j exp(ℓ(s_i − s_j)/λ) )^{λ/μ}          the hardest positives first, too

    ℓ is a surrogate of "s_i is not above s_j". λ = ∞ is the mean over all pairs, the whole area;
    the smaller λ, the smaller the false positive rate up to which it counts. It is the KL-robust
    form (Zhu et al., ICML 2022) whose gradient LibAUC's ``pAUC_DRO_Loss`` and ``tpAUC_KL_Loss``
    estimate with moving averages; with γ = 1 they are equal.

    Args:
        strength: λ > 0, or infinite.
        of_positives: μ > 0 for the two-way form; None for the one-way.
        surrogate: ``"squared_hinge"``, ``"squared"``, ``"hinge"`` or ``"logistic"``.
        margin: m of [m − t]₊ and its kin, and the slope of ``"logistic"``.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: λ or μ that are not above 0, or another surrogate.
    """

    def __init__(
        self,
        strength: float = 1.0,
        of_positives: float | None = None,
        *,
        surrogate: Surrogate = "squared_hinge",
        margin: float = 1.0,
        ranks: Across = "auto",
    ) -> None:
        super().__init__(ranks)
        self.strength = math.inf if strength == math.inf else positive("strength", strength)
        self.of_positives = None if of_positives is None else positive("of_positives", of_positives)
        if self.of_positives is not None and math.isinf(self.strength):
            raise ValueError("of_positives= goes with a finite strength")
        if surrogate not in _SURROGATES:
            raise ValueError(f"surrogate must be one of {[*_SURROGATES]}, got {surrogate!r}")
        self.surrogate, self.margin = surrogate, finite("margin", margin)

    def forward(self, scores: Tensor, positives: Tensor) -> Tensor:
        """Return the term, a scalar.

        Args:
            scores: (N,) of pairs or of samples, such as cosines.
            positives: (N,) bool, which of them are to score high.

        Raises:
            ValueError: shapes that do not fit, or a batch without positives or negatives.
        """
        if scores.dim() != 1 or positives.shape != scores.shape or positives.dtype != torch.bool:
            raise ValueError(
                f"scores and positives must be (N,) numbers and bool, got {tuple(scores.shape)} "
                f"and {positives.dtype} {tuple(positives.shape)}"
            )
        group = self._group(len(scores), scores.device)
        with torch.autocast(scores.device.type, enabled=False):
            s = scores.to(compute_dtype(scores))
            if group is not None:
                s, positives = gather_columns(s, group), group.gather(positives)
            high, low = s[positives], s[~positives]
            if not len(high) or not len(low):
                raise ValueError(
                    f"the batch needs a positive and a negative, got {len(high)} and {len(low)}"
                )
            losses = _SURROGATES[self.surrogate](self.margin, high[:, None] - low[None])
            if math.isinf(self.strength):
                return losses.mean()
            of_each = (losses / self.strength).logsumexp(1) - math.log(len(low))
            if self.of_positives is None:
                return self.strength * of_each.mean()
            raised = (self.strength / self.of_positives * of_each).logsumexp(0)
            return self.of_positives * (raised - math.log(len(high)))

    def extra_repr(self) -> str:
        return f"strength={self.strength:g}, surrogate={self.surrogate}"
