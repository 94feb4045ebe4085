"""Triplet queries: two of three samples are alike, and the third is the odd one out (SIRL)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import finite, flag
from tauten.pairwise.sides import compute_dtype
from tauten.terms.base import Across, AddedTerm, batch_mean, check_rows


class TripletQueries(AddedTerm):
    """Hinge on answers to "which two of these three are alike?".

    T = mean over queries (a, b, c) of [d(a,b) − d(a,c) + m]₊ + [d(a,b) − d(b,c) + m]₊

    a and b are alike and c is the odd one. d is the squared Euclidean distance of the embeddings as
    they are, not scaled to length 1, or with ``squared=False`` the distance. SIRL (Bobu et al., HRI
    2023) learns features of a robot's reward from such queries; its power of d is from memory.

    Args:
        margin: m >= 0 of all queries, where a call gives none of each.
        squared: whether d is the squared distance.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: a margin below 0.
    """

    def __init__(
        self, margin: float = 1.0, *, squared: bool = True, ranks: Across = "auto"
    ) -> None:
        super().__init__(ranks)
        self.margin = finite("margin", margin)
        if self.margin < 0:
            raise ValueError(f"margin must be >= 0, got {margin!r}")
        self.squared = flag("squared", squared)

    def forward(self, z: Tensor, queries: Tensor, margin: Tensor | None = None) -> Tensor:
        """Return the term, a scalar.

        Args:
            z: (N, d) embeddings.
            queries: (Q, 3) long, rows of z: two that are alike, and the odd one.
            margin: (Q,) >= 0 of each query, such as ``control.at(ids, step)``.

        Raises:
            ValueError: shapes that do not fit, rows that z does not have, a margin below 0.
        """
        group = self._group(len(queries), z.device)
        check_rows("z", z, 1, None)
        check_rows("queries", queries.to(z.dtype), 1, group)
        if queries.shape[1] != 3 or queries.is_floating_point():
            raise ValueError(f"queries must be whole numbers (Q, 3), got {tuple(queries.shape)}")
        if len(queries) and not 0 <= int(queries.min()) <= int(queries.max()) < len(z):
            raise ValueError(
                f"queries must name rows 0 .. {len(z) - 1} of z, got {int(queries.min())} .. "
                f"{int(queries.max())}"
            )
        with torch.autocast(z.device.type, enabled=False):
            z = z.to(compute_dtype(z))
            levels = torch.as_tensor(self.margin if margin is None else margin).to(z)
            if (levels.dim() and levels.shape != (len(queries),)) or bool((levels < 0).any()):
                raise ValueError(f"margin must be ({len(queries)},), one >= 0 for each query")
            a, b, odd = z[queries.to(z.device)].unbind(1)
            near = self._distance(a, b) + levels
            return batch_mean(
                F.relu(near - self._distance(a, odd)) + F.relu(near - self._distance(b, odd)), group
            )

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        squared = (a - b).square().sum(1)
        if self.squared:
            return squared
        apart = ~(squared <= 0)  # the root has no gradient where two coincide
        return squared.where(apart, torch.ones_like(squared)).sqrt() * apart

    def extra_repr(self) -> str:
        return f"margin={self.margin:g}, squared={self.squared}"
