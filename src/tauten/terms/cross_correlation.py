"""Correlation of the components of two sides (Barlow Twins, BarLIP)."""

from __future__ import annotations

import torch
from torch import Tensor

from tauten.checks import finite
from tauten.pairwise.exchange import Ranks, total
from tauten.pairwise.sides import compute_dtype
from tauten.terms.base import Across, AddedTerm, check_pairs, check_rows

#: added to the variance of a component, as batch normalisation does
_EPSILON = 1e-5


class CrossCorrelation(AddedTerm):
    """Each component of x like that of y, and unlike all others, without negatives.

    B(x, y) = Σ_a (1 − C_aa)² + off·Σ_{a≠b} C_ab²,  C_ab the correlation of x_a and y_b over the
    batch

    Rows are taken as they are, so those beyond 1e18 overflow in float32, and each component has its
    mean and variance over the batch taken out. Zbontar et al., ICML 2021; with ``0.025 *`` it is
    BarLIP, a term of "Improved baselines for vision-language pre-training" (CLIP-rocket, 2023),
    there of heads of their own.

    Args:
        off: weight >= 0 of different components; published: 5e-3.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: a weight below 0.
    """

    def __init__(self, off: float = 5e-3, *, ranks: Across = "auto") -> None:
        super().__init__(ranks)
        self.off = finite("off", off)
        if self.off < 0:
            raise ValueError(f"off must be >= 0, got {off!r}")

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the term, a scalar.

        Args:
            x: (N, d) embeddings, N >= 2 over all processes.
            y: (N, d); x[i] and y[i] are a pair.

        Raises:
            ValueError: shapes that do not fit, or fewer than 2 rows.
        """
        check_pairs(x, y)
        group = self._group(len(x), x.device)
        rows = check_rows("x", x, 2, group)
        with torch.autocast(x.device.type, enabled=False):
            dtype = compute_dtype(x, y)
            both = torch.cat([side.to(dtype) for side in (x, y)], dim=1)
            both = both - _summed(both.sum(0), group) / rows
            variance = _summed(both.square().sum(0), group) / rows
            first, second = (both * (variance + _EPSILON).rsqrt()).chunk(2, dim=1)
            correlation = _summed(first.T @ second, group) / rows
            same = correlation.diagonal()
            apart = correlation.square().sum() - same.square().sum()
            return (1 - same).square().sum() + self.off * apart

    def extra_repr(self) -> str:
        return f"off={self.off:g}"


def _summed(values: Tensor, group: Ranks | None) -> Tensor:
    return values if group is None else total(values, group)
