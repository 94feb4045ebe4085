"""Distance to the nearest neighbour: the Kozachenko-Leonenko estimate of entropy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.pairwise import PairMask
from tauten.pairwise.exchange import gather_columns
from tauten.pairwise.nearest import topk_pairs
from tauten.pairwise.reduction import compute_dtype
from tauten.pairwise.sides import EPSILON, within_range
from tauten.terms.base import Across, AddedTerm, batch_mean, check_rows


class KoLeo(AddedTerm):
    """Minus the mean log distance of each row to its nearest other row.

    K(x) = −mean_i log (min_{j≠i} ‖x_i − x_j‖ + ε), rows scaled to length 1. It grows without bound
    where two rows meet, so it spreads the batch. Sablayrolles et al. 2019; DINOv2 (Oquab et al.
    2023) and models of biosignals (Abbaspourazad et al. 2024) add it with a weight of about 0.1.

    Args:
        eps: added to each distance, >= 0, which bounds the term where rows coincide.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: a negative eps.
    """

    def __init__(self, eps: float = 1e-8, *, ranks: Across = "auto") -> None:
        super().__init__(ranks)
        if isinstance(eps, bool) or not isinstance(eps, (int, float)) or not 0 <= eps < 1:
            raise ValueError(f"eps must be a number in [0, 1), got {eps!r}")
        self.eps = float(eps)

    def forward(self, x: Tensor) -> Tensor:
        """Return the term, a scalar.

        Args:
            x: (N, d) embeddings, N >= 2 over all processes.
        """
        group = self._group(len(x), x.device)
        check_rows("x", x, 2, group)
        with torch.autocast(x.device.type, enabled=False):
            unit = F.normalize(within_range(x).to(compute_dtype(x)), dim=1, eps=EPSILON)
            every = unit if group is None else gather_columns(unit, group)
            first = 0 if group is None else group.first
            itself = torch.arange(len(x), device=x.device) + first
            mask = PairMask(itself, own=True, diagonal=first)
            _, nearest = topk_pairs(unit, every, 1, mask, cosine=False)
            squared = (unit - every[nearest[:, 0]]).square().sum(1)
            # rows that coincide have no direction to part in, so no gradient
            apart = ~(squared <= 0)
            distance = squared.where(apart, squared.new_ones(())).sqrt()
            distance = distance.where(apart, distance.new_zeros(()))
            return -batch_mean((distance + self.eps).log(), group)

    def extra_repr(self) -> str:
        return f"eps={self.eps:g}"
