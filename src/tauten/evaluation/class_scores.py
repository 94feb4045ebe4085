"""Scores of each query by candidates of its own class.

A candidate is relevant to a query if both are of one class, whether they are a pair or not. Ranks,
ties and tolerance are those of :mod:`tauten.evaluation.ranks`. Scores are formed in blocks of
queries, of which only the metrics of each query are kept.

Shape suffixes: Q queries, b queries of one block, C candidates, P relevant pairs of a block, k the
most relevant candidates of one of its queries.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from tauten.evaluation.ahead import count_at_least
from tauten.evaluation.checks import checked_directions, whole, whole_numbers
from tauten.evaluation.correspondence import embeddings, rounding, sides
from tauten.evaluation.query_ranks import QueryRanks
from tauten.evaluation.summary import PerQuery

WAYS = ("x2y", "y2x", "x2x", "y2y")
BUDGET = 2**22


class NoClass:
    """The mark of a sample without a class, where ``None`` would mean another thing."""

    def __repr__(self) -> str:
        return "no class"


NO_CLASS = NoClass()


@dataclass(frozen=True)
class ClassScores:
    """Scores of the queries that have a relevant candidate.

    Attributes:
        rows: (q,) long, the queries that have one, ascending.
        scores: metrics of those queries.
        queries: Q, all queries.
    """

    rows: Tensor
    scores: PerQuery
    queries: int

    def average_precision(self) -> Tensor:
        """Return (Q,) float64; NaN where no candidate is relevant."""
        precision = torch.full((self.queries,), torch.nan, dtype=torch.float64)
        if len(self.rows):
            precision[self.rows] = self.scores.means["mAP"]
        return precision


def class_scores(
    x: Any,
    labels: Sequence[Hashable] | Tensor,
    y: Any = None,
    labels_of_y: Sequence[Hashable] | Tensor | None = None,
    ks: Sequence[int] = (1, 5, 10),
    *,
    ways: Iterable[str] = WAYS,
    normalize: bool = True,
    budget: int = BUDGET,
) -> dict[str, ClassScores]:
    """Return the scores that :func:`tauten.evaluation.class_retrieval` takes means of.

    Args:
        x: (N, d) embeddings.
        labels: (N,) classes, ``None`` or NaN for a sample without one.
        y: (M, d) embeddings; None where x alone is searched.
        labels_of_y: (M,) classes.
        ks: the Ks of hit@K and recall@K.
        ways: any of "x2y", "y2x", "x2x", "y2y".
        normalize: rank by cosine, else by the dot product.
        budget: at most so many scores exist at any time, but at least those of one query.

    Raises:
        ValueError: see :func:`tauten.evaluation.class_retrieval`.
    """
    ks, ways = whole_numbers(ks, "ks"), checked_directions(ways, WAYS, "ways")
    whole(budget, "budget", 1)
    for way in ways:
        if "y" in way and y is None:
            raise ValueError(f"direction {way} needs y")
    rows = {"x": embeddings(x, "x", normalize)}
    given: list[tuple[Any, int, str]] = [(labels, len(rows["x"]), "x")]
    if y is not None:
        rows["x"], rows["y"] = sides(x, y, normalize)
        given.append((labels_of_y, len(rows["y"]), "y"))
    classes = dict(zip(rows, class_numbers_of(*given), strict=True))
    return {
        way: _way(
            (rows[way[0]], classes[way[0]]),
            (rows[way[-1]], classes[way[-1]]),
            ks,
            way[0] == way[-1],
            budget,
        )
        for way in ways
    }


def class_numbers_of(*given: tuple[Any, int, str]) -> list[Tensor]:
    """Return classes as numbers, those of one name alike on all sides, -1 where there is none.

    Args:
        given: for each side its classes, how many there must be, and the side's name.
    """
    listed = [
        listed_classes(labels, expected, "labels" if side == "x" else f"labels_of_{side}", side)
        for labels, expected, side in given
    ]
    names = dict.fromkeys(name for side in listed for name in side if name is not None)
    number = {name: i for i, name in enumerate(names)}
    return [
        torch.tensor([-1 if name is None else number[name] for name in side]) for side in listed
    ]


@torch.no_grad()
def _way(
    queries: tuple[Tensor, Tensor],
    candidates: tuple[Tensor, Tensor],
    ks: Sequence[int],
    exclude_self: bool,
    budget: int,
) -> ClassScores:
    (rows_Q, class_Q), (rows_C, class_C) = queries, candidates
    step = max(1, budget // len(rows_C))
    having, parts = [], []
    for start in range(0, len(rows_Q), step):
        stop = min(start + step, len(rows_Q))
        left_out = torch.arange(start, stop) if exclude_self else None
        relevant_bC = relevance(class_Q[start:stop], class_C, left_out)
        has = relevant_bC.any(dim=1)
        if not has.any():
            continue
        where = start + has.nonzero().flatten()
        left_out = where if exclude_self else None
        ranked = _ranked(rows_Q[where], rows_C, relevant_bC[has], left_out)
        having.append(where)
        parts.append(PerQuery.of(ranked, ks))
    if not parts:
        return ClassScores(torch.zeros(0, dtype=torch.long), PerQuery(), len(rows_Q))
    return ClassScores(torch.cat(having), PerQuery.joined(parts), len(rows_Q))


def relevance(class_b: Tensor, class_C: Tensor, left_out: Tensor | None) -> Tensor:
    """Return (b, C) bool: both of one class; -1 is no class, and no query is relevant to itself.

    Args:
        class_b: (b,) long, of queries.
        class_C: (C,) long, of candidates.
        left_out: (b,) long, the candidate that is the query itself.
    """
    relevant_bC = (class_b[:, None] == class_C) & (class_b >= 0)[:, None]
    if left_out is not None:
        relevant_bC[torch.arange(len(class_b)), left_out] = False
    return relevant_bC


def _ranked(
    rows_b: Tensor, rows_C: Tensor, relevant_bC: Tensor, left_out: Tensor | None
) -> QueryRanks:
    """Rank the relevant candidates of queries that have one each at least."""
    relevant_bC = relevant_bC.to(rows_b.device)
    with torch.autocast(rows_b.device.type, enabled=False):
        sim_bC = rows_b @ rows_C.T
    row_P, column_P = relevant_bC.nonzero(as_tuple=True)
    norm_P = rows_b.norm(dim=1)[row_P] * rows_C.norm(dim=1)[column_P]
    bar_P = sim_bC[row_P, column_P] - rounding(norm_P)
    by_bar = bar_P.argsort(descending=True, stable=True)
    order = by_bar[row_P[by_bar].argsort(stable=True)]
    row_P, bar_P = row_P[order], bar_P[order]
    sim_bC[relevant_bC] = -torch.inf
    if left_out is not None:
        sim_bC[torch.arange(len(rows_b)), left_out] = -torch.inf
    length_b = relevant_bC.sum(dim=1)
    offsets = torch.cat([length_b.new_zeros(1), length_b.cumsum(0)])
    place_P = torch.arange(len(row_P), device=row_P.device)
    bar_bk = bar_P.new_full((len(rows_b), int(length_b.max())), torch.inf)
    from_end_P = place_P - offsets[row_P + 1]
    bar_bk[row_P, from_end_P] = bar_P
    ahead_P = count_at_least(sim_bC, bar_bk)[row_P, from_end_P]
    ranks = ahead_P + place_P - offsets[row_P] + 1
    candidates = len(rows_C) - (0 if left_out is None else 1)
    return QueryRanks(ranks.cpu(), offsets.cpu(), candidates)


def listed_classes(labels: Any, expected: int, name: str, what: str) -> list[Hashable]:
    """Return classes as a list of so many, checked; NaN is no class, as ``None`` is."""
    if labels is None or isinstance(labels, str) or not hasattr(labels, "__len__"):
        raise ValueError(f"{name} must be a list with one class per {what}, not {labels!r}")
    listed = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if len(listed) != expected:
        raise ValueError(f"{name} has {len(listed)} entries for {expected} {what}: give one each")
    return [None if isinstance(name, Real) and name != name else name for name in listed]
