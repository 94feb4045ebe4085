"""Queries between two prototypes, now and in the past (ST-SSDL)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import finite
from tauten.pairwise.sides import compute_dtype
from tauten.terms.base import Across, AddedTerm, batch_mean, check_pairs, check_rows


class PrototypeHinge(AddedTerm):
    """Hinge that keeps a query's nearest prototype nearer than its second one.

    H = mean_i [ ‖sg q_i − p_i1‖ − ‖sg q_i − p_i2‖ + m ]₊,  p_i1, p_i2 the two of the largest q_i·p

    Only the prototypes have a gradient. ST-SSDL (Gao et al., NeurIPS 2025), with m = 0.5.

    Args:
        margin: m >= 0 where a call gives none.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: a margin below 0.
    """

    def __init__(self, margin: float = 0.5, *, ranks: Across = "auto") -> None:
        super().__init__(ranks)
        self.margin = finite("margin", margin)
        if self.margin < 0:
            raise ValueError(f"margin must be >= 0, got {margin!r}")

    def forward(self, queries: Tensor, prototypes: Tensor, margin: Tensor | None = None) -> Tensor:
        """Return the term, a scalar.

        Args:
            queries: (N, d).
            prototypes: (K, d), K >= 2, the same on all processes.
            margin: (N,) >= 0 of each query, such as ``control.at(ids, step)``.
        """
        group = self._group(len(queries), queries.device)
        check_rows("queries", queries, 1, group)
        check_rows("prototypes", prototypes, 2, None)
        with torch.autocast(queries.device.type, enabled=False):
            levels = torch.as_tensor(self.margin if margin is None else margin).to(queries.device)
            if (levels.dim() and levels.shape != (len(queries),)) or bool((levels < 0).any()):
                raise ValueError(f"margin must be ({len(queries)},), one >= 0 for each query")
            queries, first, second = _nearest_two(queries.detach(), prototypes)
            near, far = ((queries - p).norm(dim=1) for p in (first, second))
            return batch_mean(F.relu(near - far + levels.to(near)), group)

    def extra_repr(self) -> str:
        return f"margin={self.margin:g}"


class Deviation(AddedTerm):
    """Distance of two queries' prototypes against the distance of the queries.

    D = mean_i | sg ‖q_i − a_i‖₁ − ‖p(q_i) − p(a_i)‖₁ |,  p the prototype of the largest product

    q is of now and a of its history: prototypes are as far apart as what they stand for. Only they
    have a gradient. ST-SSDL (Gao et al., NeurIPS 2025).

    Args:
        ranks: see :class:`~tauten.terms.base.AddedTerm`.
    """

    def forward(self, queries: Tensor, history: Tensor, prototypes: Tensor) -> Tensor:
        """Return the term, a scalar.

        Args:
            queries: (N, d).
            history: (N, d), of the same places.
            prototypes: (K, d), K >= 2, the same on all processes.
        """
        check_pairs(queries, history)
        group = self._group(len(queries), queries.device)
        check_rows("queries", queries, 1, group)
        check_rows("prototypes", prototypes, 2, None)
        with torch.autocast(queries.device.type, enabled=False):
            now, at, _ = _nearest_two(queries.detach(), prototypes)
            before, past, _ = _nearest_two(history.detach(), prototypes)
            apart = (now - before).abs().sum(1) - (at - past).abs().sum(1)
            return batch_mean(apart.abs(), group)


def _nearest_two(queries: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the queries and, for each, the two prototypes of the largest product."""
    if queries.shape[1] != prototypes.shape[1]:
        raise ValueError(
            f"queries and prototypes must be of one width, got {queries.shape[1]} and "
            f"{prototypes.shape[1]}"
        )
    dtype = compute_dtype(queries, prototypes)
    queries, prototypes = queries.to(dtype), prototypes.to(dtype)
    best = (queries @ prototypes.detach().T).topk(2, dim=1).indices
    first, second = prototypes[best].unbind(1)
    return queries, first, second
