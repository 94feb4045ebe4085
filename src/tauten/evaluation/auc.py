"""Area under the ROC curve over all pairs: how often a relevant pair scores above another.

Shape suffixes: N rows of x, b of one block, M rows of y, P relevant pairs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.evaluation.checks import group_names, members, whole
from tauten.evaluation.class_scores import BUDGET, class_numbers_of, relevance
from tauten.evaluation.correspondence import correspondence, sides

Relevance = Callable[[Tensor], Tensor]


def pair_auc(
    x: Any,
    y: Any,
    y_of_x: Any = None,
    groups: Sequence[str] | None = None,
    *,
    labels: Sequence[Hashable] | Tensor | None = None,
    labels_of_y: Sequence[Hashable] | Tensor | None = None,
    exclude_self: bool = False,
    normalize: bool = True,
    budget: int = BUDGET,
) -> dict[str, float]:
    """Return the AUC over all pairs (x_i, y_j), exactly; equal scores count half.

    AUC = P(s⁺ > s⁻) + ½ P(s⁺ = s⁻), s⁺ the score of a relevant pair and s⁻ that of another. Pairs
    are relevant by ``y_of_x``, or by class where ``labels`` are given. Each score is formed twice,
    none is kept but those of the P relevant pairs. One number over all pairs has no interval over
    queries; for that see MRR and mAP.

    Args:
        x: (N, d) embeddings.
        y: (M, d) embeddings.
        y_of_x: for each x the list of its y's; by default row i of both is a pair.
        groups: a name per x; the AUC of a group is over the pairs of its x's.
        labels: (N,) classes, ``None`` or NaN for none.
        labels_of_y: (M,) classes; by default ``labels``.
        exclude_self: leave the pairs (i, i) out, for both sides being the same samples.
        normalize: score by cosine, else by the dot product.
        budget: at most so many scores exist at any time, but at least those of one x.

    Returns:
        ``AUC`` and ``AUC/GROUP``; NaN where all pairs are relevant, or none, and a warning where
        that is so of all pairs.

    Raises:
        ValueError: bad embeddings, both or neither kind of relevance fits, lengths that differ.
    """
    whole(budget, "budget", 1)
    rows, others = sides(x, y, normalize)
    if exclude_self and len(rows) != len(others):
        raise ValueError(
            f"exclude_self=True needs x and y to be the same samples, but x has {len(rows)} rows "
            f"and y has {len(others)}"
        )
    if labels is not None and y_of_x is not None:
        raise ValueError("give y_of_x or labels: pairs are relevant by one of them")
    if groups is not None:
        group_names(groups, "groups", "x", len(rows))
    if labels is not None:
        of_y = labels if labels_of_y is None else labels_of_y
        class_N, class_M = class_numbers_of((labels, len(rows), "x"), (of_y, len(others), "y"))
        relevant: Relevance = lambda index: relevance(  # noqa: E731
            class_N[index], class_M, index if exclude_self else None
        )
    else:
        relevant = _by_pairs(y_of_x, len(rows), len(others))
    out: dict[str, float] = {}
    for group in ("", *sorted(set(groups or ()))):
        index = members(groups or (), group) if group else torch.arange(len(rows))
        blocks = index.split(max(1, budget // len(others)))
        out[f"AUC/{group}" if group else "AUC"] = _auc(
            rows, others, list(blocks), relevant, exclude_self
        )
    if math.isnan(out["AUC"]):
        warnings.warn(
            f"the AUC is NaN: of {len(rows)} rows of x and {len(others)} of y all pairs are "
            "relevant, or none is; it compares relevant pairs with others",
            stacklevel=2,
        )
    return out


def _by_pairs(y_of_x: Any, n: int, m: int) -> Relevance:
    if y_of_x is None:
        if n != m:
            raise ValueError(f"x has {n} rows but y has {m}: give y_of_x or labels")
        y_of_x = range(n)
    pairs = correspondence(y_of_x, n, m)

    def relevant(index: Tensor) -> Tensor:
        matching = torch.zeros(len(index), m, dtype=torch.bool)
        for row, i in enumerate(index.tolist()):
            matching[row, pairs.targets[pairs.offsets[i] : pairs.offsets[i + 1]]] = True
        return matching

    return relevant


@torch.no_grad()
def _auc(
    rows: Tensor, others: Tensor, blocks: list[Tensor], relevant: Relevance, exclude_self: bool
) -> float:
    scores = []
    for index in blocks:
        scores.append((rows[index] @ others.T)[relevant(index).to(rows.device)])
    above = torch.cat(scores).sort().values
    wins, negatives = 0, 0
    for index in blocks:
        counted = ~relevant(index)
        if exclude_self:
            counted[torch.arange(len(index)), index] = False
        score = (rows[index] @ others.T)[counted.to(rows.device)]
        higher = len(above) * 2 * len(score)
        higher -= int(torch.searchsorted(above, score, right=True).sum())
        higher -= int(torch.searchsorted(above, score).sum())
        wins, negatives = wins + higher, negatives + len(score)
    pairs = len(above) * negatives
    return wins / (2 * pairs) if pairs else float("nan")
