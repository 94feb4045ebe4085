"""Own negatives of the anchors of one direction, met beside the pair matrix.

Shapes: n anchors of this process, K own negatives each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.losses.cached import Cached
from tauten.pairwise.reduction import compute_dtype
from tauten.pairwise.sides import EPSILON


@dataclass(frozen=True, eq=False)
class HardNegatives:
    """The own negatives of each anchor.

    Attributes:
        anchors: (n, d).
        vectors: (n, K, d), zeros where one is missing.
        missing: (n, K) bool; None where all count.
        cosine: whether similarities are cosines.
        given: (n, K) similarities in the place of those of the vectors.
    """

    anchors: Tensor
    vectors: Tensor
    missing: Tensor | None
    cosine: bool
    given: Tensor | None = None

    @Cached
    def similarity(self) -> Tensor:
        """(n, K), t_ik of anchor i and its k-th own negative."""
        if self.given is not None:
            return self.given
        dtype = compute_dtype(self.anchors, self.vectors)
        anchors, vectors = self.anchors.to(dtype), self.vectors.to(dtype)
        if self.cosine:
            anchors = F.normalize(anchors, dim=1, eps=EPSILON)
            vectors = F.normalize(vectors, dim=2, eps=EPSILON)
        return torch.einsum("nd,nkd->nk", anchors, vectors)

    @Cached
    def count(self) -> Tensor:
        """(n,) how many each anchor has."""
        if self.missing is None:
            rows, each = self.vectors.shape[:2]
            return self.similarity.new_full((rows,), float(each))
        return (~self.missing).sum(1).to(self.similarity.dtype)

    def sum(self, values: Tensor) -> Tensor:
        """Return (n,) the sum of values (n, K) over the negatives that count."""
        counted = values if self.missing is None else values.masked_fill(self.missing, 0.0)
        return counted.sum(1)

    def log_add_exp(self, log_sum: Tensor, logits: Tensor) -> Tensor:
        """Return (n,) log(exp(log_sum) + Σ_k exp(logits_k)) over those that count.

        Args:
            log_sum: (n,), of the other candidates.
            logits: (n, K).
        """
        if self.missing is not None:
            logits = logits.masked_fill(self.missing, -torch.inf)
        return log_add_exp(log_sum, logits)


def log_add_exp(log_sum: Tensor, logits: Tensor) -> Tensor:
    """Return (n,) log(exp(log_sum) + Σ_k exp(logits_k)); −∞, without a gradient, over nothing."""
    with torch.no_grad():
        peak = torch.maximum(log_sum, logits.amax(1))
        peak = peak.masked_fill(peak.isneginf(), 0.0)
    total = (log_sum - peak).exp() + (logits - peak.unsqueeze(1)).exp().sum(1)
    empty = total == 0
    return (total.masked_fill(empty, 1.0).log() + peak).masked_fill(empty, -torch.inf)
