"""Retrieval of the same class: across both modalities and within each."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from tauten.evaluation.checks import checked_directions, group_names, whole
from tauten.evaluation.class_scores import (
    BUDGET,
    NO_CLASS,
    WAYS,
    ClassScores,
    class_scores,
    listed_classes,
)
from tauten.evaluation.correspondence import Correspondence, correspondence, propagate
from tauten.evaluation.summary import summarize


def class_retrieval(
    x: Any,
    labels: Sequence[Hashable] | Tensor,
    y: Any = None,
    labels_of_y: Sequence[Hashable] | Tensor | None = None,
    ks: Sequence[int] = (1, 5, 10),
    groups: Sequence[str] | None = None,
    *,
    y_of_x: Any = None,
    group_of_y: Sequence[str] | None = None,
    directions: Iterable[str] | None = None,
    normalize: bool = True,
    bootstrap: int = 1000,
    seed: int = 0,
    budget: int = BUDGET,
) -> dict[str, float]:
    """Return retrieval of the same class, overall and by group, with 95 % intervals.

    A candidate is relevant if it is of the query's class. Keys, with D one of "x2y" (x queries, y
    are ranked), "y2x", "x2x" and "y2y" (one side searched by itself, the query left out):

    * ``D/mAP``: mean over queries of AP_q = 1/R_q Σ_j j / r_qj, where r_q1 < r_q2 < ... are the
      ranks of the R_q relevant candidates;
    * ``D/hit@K``, ``D/recall@K``, ``D/MRR``, ``D/mean_rank``, ``D/median_rank``: as
      :func:`tauten.evaluation.retrieval` has them;
    * ``D/n``: queries that these are means over;
    * ``D/n_without``: queries that have no relevant candidate, or no class, and are left out;
    * ``.../GROUP`` and ``.../low``, ``.../high``: as :func:`tauten.evaluation.retrieval` has them.

    Ties are pessimistic: a candidate of another class that scores the same, up to rounding, is
    ahead. A sample without a class is a candidate that matches nobody. Where no query has a
    relevant candidate there are ``n`` and ``n_without`` alone.

    Args:
        x: (N, d) embeddings.
        labels: (N,) classes, names or numbers, ``None`` or NaN for a sample without one.
        y: (M, d) embeddings of the other modality; None for "x2x" alone.
        labels_of_y: (M,) classes; by default those of their x's.
        ks: the Ks, any positive integers.
        groups: a name per x, such as "head", "mid", "tail".
        y_of_x: for each x the list of its y's, from which classes and groups of y follow; the y's
            of one x are drawn together. By default row i of both is a pair where N = M.
        group_of_y: a name per y, where that is ambiguous or ``y_of_x`` is not known.
        directions: some of the four; by default all that x and y allow.
        normalize: rank by cosine, else by the dot product.
        bootstrap: replicates; 0 leaves the intervals out.
        seed: seed of the resampling.
        budget: at most so many scores exist at any time, but at least those of one query.

    Raises:
        ValueError: bad embeddings, labels or groups of another length, a y whose x's are of several
            classes or groups, an unknown direction, a K < 1, or bootstrap < 0.
    """
    whole(bootstrap, "bootstrap", 0)
    whole(seed, "seed")
    all_ways = WAYS if y is not None else ("x2x",)
    ways = checked_directions(all_ways if directions is None else directions, WAYS)
    pairs = None
    if y is not None:
        y_of_x = range(len(x)) if y_of_x is None and len(x) == len(y) else y_of_x
        pairs = None if y_of_x is None else correspondence(y_of_x, len(x), len(y))
    if labels_of_y is None and pairs is not None:
        labels_of_y = _inherited(
            listed_classes(labels, len(x), "labels", "x"), pairs, "labels_of_y"
        )
    if groups is not None:
        group_names(groups, "groups", "x", len(x))
        groups = list(groups)
    if group_of_y is not None:
        group_names(group_of_y, "group_of_y", "y", len(y))
    scores = class_scores(
        x, labels, y, labels_of_y, ks, ways=ways, normalize=normalize, budget=budget
    )
    from_y = any(way[0] == "y" for way in ways)
    if groups is not None and group_of_y is None and from_y:
        if pairs is None:
            raise ValueError("groups of y are not known: give y_of_x or group_of_y")
        pairs.inverse().require_complete("y", "y2x")
        group_of_y = propagate(groups, pairs, "group_of_y")
    return of_class_scores(
        scores, pairs if from_y else None, groups, group_of_y, bootstrap=bootstrap, seed=seed
    )


def of_class_scores(
    of_ways: Mapping[str, ClassScores],
    pairs: Correspondence | None,
    groups: Sequence[str] | None = None,
    group_of_y: Sequence[str] | None = None,
    *,
    bootstrap: int,
    seed: int = 0,
) -> dict[str, float]:
    """Return the metrics of scores by direction, see :func:`class_retrieval`.

    Args:
        of_ways: what :func:`class_scores` returns.
        pairs: who belongs to whom, where known: the y's of one x are drawn together.
        groups: name of each x.
        group_of_y: name of each y.
        bootstrap: replicates.
        seed: seed of the resampling.
    """
    first = None if pairs is None else _first(pairs)
    out: dict[str, float] = {}
    for way, scores in of_ways.items():
        names, clusters = (groups, None) if way[0] == "x" else (group_of_y, first)
        out |= _with_left_out(way, scores, names, clusters, bootstrap, seed)
    return out


def _with_left_out(
    way: str,
    scores: ClassScores,
    names: Sequence[str] | None,
    clusters: Tensor | None,
    bootstrap: int,
    seed: int,
) -> dict[str, float]:
    of_query = None if names is None else [names[i] for i in scores.rows.tolist()]
    together = None if clusters is None else clusters[scores.rows]
    out = {f"{way}/n": 0.0}
    if len(scores.rows):
        out = summarize(way, scores.scores, of_query, together, bootstrap, seed)
    out[f"{way}/n_without"] = float(scores.queries - len(scores.rows))
    for group in sorted(set(names or ())):
        left = (names or ()).count(group) - (of_query or []).count(group)
        out[f"{way}/n_without/{group}"] = float(left)
    return out


def _inherited(labels: list[Hashable], pairs: Correspondence, argument: str) -> list[Hashable]:
    """Give each y the class of its x's."""
    pairs.inverse().require_complete("y", "classes of y")
    named: list[Any] = [NO_CLASS if name is None else name for name in labels]
    of_y: list[Any] = list(propagate(named, pairs, argument))
    return [None if name is NO_CLASS else name for name in of_y]


def _first(pairs: Correspondence) -> Tensor | None:
    """Return (M,) long, the first x of each y; None where some y has none."""
    inverse = pairs.inverse()
    if bool((inverse.lengths == 0).any()):
        return None
    return inverse.targets[inverse.offsets[:-1]]
