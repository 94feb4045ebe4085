"""Alignment: the distance of the two sides of each pair (Wang & Isola 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from tauten.pairwise.sides import as_reduced, within_range
from tauten.terms.base import Across, AddedTerm, batch_mean, check_pairs, check_rows, positive


class Alignment(AddedTerm):
    """Mean distance of matching pairs.

    A(x, y) = mean_i ‖x_i − y_i‖^α, rows scaled to length 1. It is 0 where all pairs coincide.
    Wang & Isola 2020; as a further term against the modality gap in Fahim et al. 2024.

    Args:
        alpha: power of the distance, > 0; published: 2.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: alpha that is not above 0.
    """

    def __init__(self, alpha: float = 2.0, *, ranks: Across = "auto") -> None:
        super().__init__(ranks)
        self.alpha = positive("alpha", alpha)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the term, a scalar.

        Args:
            x: (N, d) embeddings of one side.
            y: (N, d) embeddings of the other; x[i] and y[i] match.
        """
        check_pairs(x, y)
        group = self._group(len(x), x.device)
        check_rows("x", x, 1, group)
        check_rows("y", y, 1, group)
        with torch.autocast(x.device.type, enabled=False):
            x, y = as_reduced(within_range(x), within_range(y), cosine=True)
            squared = (x - y).square().sum(1)
            if self.alpha == 2:
                return batch_mean(squared, group)
            # a coinciding pair has distance 0, where the root has no gradient
            apart = ~(squared <= 0)
            powered = squared.where(apart, squared.new_ones(())).pow(self.alpha / 2)
            return batch_mean(powered.where(apart, powered.new_zeros(())), group)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}"
