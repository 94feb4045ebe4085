"""Class prototypes moved to where the queries lie (BECLR's OpTA)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tauten.evaluation.neighbours import features
from tauten.pairwise.sinkhorn import sinkhorn


def transported(support: Any, queries: Any, *, eps: float = 0.05, iterations: int = 1000) -> Tensor:
    """Return each support vector as the mean of the queries that optimal transport sends to it.

    s'_c = Σ_q π_cq·z_q / Σ_q π_cq,  π = Sinkhorn(cost / max cost), cost_cq = ‖s_c − z_q‖²

    with equal shares of all support vectors and of all queries, which needs queries of all classes
    in about equal numbers. It takes out a shift between a few labelled samples and what is asked.
    OpTA of BECLR (Poulakakis-Daktylidis & Jamali-Rad, ICLR 2024).

    Args:
        support: (C, d) a prototype of each class, or labelled samples.
        queries: (Q, d).
        eps: ε > 0 of Sinkhorn.
        iterations: iterations of Sinkhorn.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
    """
    s, z = features(support, "support"), features(queries, "queries")
    if s.shape[1] != z.shape[1]:
        raise ValueError(f"queries must be (Q, {s.shape[1]}), got {tuple(z.shape)}")
    if s.dtype != z.dtype:
        s, z = s.double(), z.double()
    cost = (s[:, None] - z[None]).square().sum(2)
    shares = sinkhorn(
        -cost / cost.max().clamp(min=1e-30),
        "uniform",
        eps=eps,
        iterations=iterations,
        ranks="local",
    )
    return shares @ z
