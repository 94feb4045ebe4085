"""Recommendation: candidates that a query has not seen are ranked for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.evaluation.checks import whole

_BLOCK = 256


@torch.no_grad()
def unseen_scores(
    x: Tensor,
    y: Tensor,
    matches: Sequence[Sequence[int]],
    seen: Sequence[Sequence[int]],
    k: int = 20,
) -> dict[str, Tensor]:
    """Score a ranking of all candidates but those that each query has seen.

    Ranks are by cosine; a candidate that scores as a match does is ahead of it. With M matches, of
    ranks r: recall@k = |{r ≤ k}| / M, and NDCG@k = Σ_{r ≤ k} 1/log₂(1 + r) over the largest that it
    can be.

    Args:
        x: (Q, d) queries, such as users.
        y: (C, d) candidates, such as films.
        matches: for each query the candidates that are right, at least one.
        seen: for each query the candidates that are left out, none of its matches.
        k: how many are shown.

    Returns:
        ``recall@k`` and ``NDCG@k``, (Q,) float64 each.

    Raises:
        ValueError: a query without a match, or one that has seen its match; k < 1.
    """
    whole(k, "k", 1)
    for query, (those, before) in enumerate(zip(matches, seen, strict=True)):
        if not those or set(those) & set(before):
            raise ValueError(f"query {query} has no match, or has seen one: {list(those)[:3]}")
    left, candidates = F.normalize(x.float(), dim=1), F.normalize(y.float(), dim=1).T
    discounts = 1 / torch.arange(2, k + 2, dtype=torch.float64).log2()
    recall, gain = [], []
    for start in range(0, len(left), _BLOCK):
        for query, scores in enumerate((left[start : start + _BLOCK] @ candidates), start):
            right = torch.tensor(list(matches[query]))
            bars = scores[right].sort(descending=True).values
            scores[right] = scores[list(seen[query])] = -torch.inf
            ahead = (scores >= bars.unsqueeze(1) - 1e-6).sum(1)
            ranks = ahead + torch.arange(1, len(right) + 1)
            near = ranks[ranks <= k]
            recall.append(len(near) / len(right))
            gain.append(float(discounts[near - 1].sum() / discounts[: len(right)].sum()))
    both = {f"recall@{k}": recall, f"NDCG@{k}": gain}
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in both.items()}
