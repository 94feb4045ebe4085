"""Cross-modal retrieval both ways, by groups, with bootstrap intervals over queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tauten.evaluation.ahead import Ties
from tauten.evaluation.checks import checked_directions, group_names, whole, whole_numbers
from tauten.evaluation.correspondence import Correspondence, correspondence, propagate
from tauten.evaluation.query_ranks import QueryRanks
from tauten.evaluation.ranks import DIRECTIONS, ranks
from tauten.evaluation.summary import PerQuery, summarize

TIES = (
    "Ties are counted pessimistically: a candidate that does not match the query and scores the "
    "same as a match, up to rounding of the dot product, ranks ahead of it."
)


def retrieval(
    x: Any,
    y: Any,
    y_of_x: Any,
    ks: Sequence[int] = (1, 5, 10),
    groups: Sequence[str] | None = None,
    *,
    group_of_y: Sequence[str] | None = None,
    directions: Iterable[str] = DIRECTIONS,
    normalize: bool = True,
    bootstrap: int = 1000,
    seed: int = 0,
    tile: int = 2048,
    one_pass: bool = False,
    resume: str | Path | None = None,
    progress: bool = False,
    exclude_self: bool = False,
    ties: Ties = "pessimistic",
) -> dict[str, float]:
    """Compute exact retrieval metrics in both directions, overall and per group,
    with 95 % intervals.

    Ranks are exact (see :mod:`tauten.evaluation.ranks`), ties pessimistic unless told otherwise: a
    non-matching candidate with an equal score ranks ahead. Keys, with D one of "x2y", "y2x" and G a
    group:

    * ``D/hit@K``: fraction of queries with any match in the top K ("recall@K" of CLIP papers);
    * ``D/recall@K``: mean over queries of the fraction of its matches in the top K;
    * ``D/median_rank``, ``D/mean_rank``: of the best match, 1 is the top;
    * ``D/mAP``: mean over queries of textbook binary average precision;
    * ``D/MRR``: mean over queries of 1 / rank of the best match;
    * ``D/n``: number of queries;
    * ``.../G``: the same over the queries of that group (ranked against *all* candidates);
    * ``.../low``, ``.../high``: 95 % intervals over the queries in question. Those of hit@K and
      recall@K are Wilson's (:func:`tauten.evaluation.intervals.share_interval`), the others
      percentile bootstrap. A y is drawn together with the others of its (first) x, as the captions
      of one image are not independent.

    Args:
        x: (N, d) embeddings of one side (image, video); an array may be memory-mapped.
        y: (M, d) embeddings of the other (text).
        y_of_x: For each x the list of its y's (several allowed), or an int vector (N,).
        ks: The Ks, any positive integers; K beyond the number of candidates is allowed.
        groups: A name per x, such as "head", "mid", "tail"; a y is in the group of its x's.
        group_of_y: A name per y, where that is ambiguous or not meant.
        directions: "x2y", "y2x" or both. A y without x is a distractor: allowed for x2y only.
        normalize: Rank by cosine; otherwise by the dot product of the rows as given.
        bootstrap: Number of replicates; 0 leaves the intervals out.
        seed: Seed of the resampling.
        tile: Edge of the score tiles; the N x M matrix is never formed.
        one_pass: Rank both directions from the same products, see :func:`tauten.evaluation.ranks`.
        resume: File from which an interrupted ranking goes on.
        progress: Show a progress bar (needs tqdm).
        exclude_self: For retrieval within one modality: row i is no candidate of row i.
        ties: "pessimistic", "optimistic" or "mean", see :func:`tauten.evaluation.ranks`.

    Returns:
        A flat dict of floats.

    Raises:
        ValueError: See :func:`tauten.evaluation.ranks`; also a K < 1, groups of the wrong length,
            with a reserved or ambiguous name, or bootstrap < 0.
    """
    ks = whole_numbers(ks, "ks")
    whole(bootstrap, "bootstrap", 0)
    whole(seed, "seed")
    directions = checked_directions(directions, DIRECTIONS)
    if groups is not None:
        group_names(groups, "groups", "x", len(x))
        groups = list(groups)
    if group_of_y is not None:
        group_names(group_of_y, "group_of_y", "y", len(y))
        group_of_y = list(group_of_y)
    of_directions = ranks(
        x,
        y,
        y_of_x,
        directions=directions,
        normalize=normalize,
        tile=tile,
        one_pass=one_pass,
        resume=resume,
        progress=progress,
        exclude_self=exclude_self,
        ties=ties,
    )
    pairs = correspondence(y_of_x, len(x), len(y))
    return of_ranks(of_directions, pairs, ks, groups, group_of_y, bootstrap=bootstrap, seed=seed)


def of_ranks(
    of_directions: Mapping[str, QueryRanks],
    pairs: Correspondence,
    ks: Sequence[int] = (1, 5, 10),
    groups: Sequence[str] | None = None,
    group_of_y: Sequence[str] | None = None,
    *,
    bootstrap: int,
    seed: int = 0,
) -> dict[str, float]:
    """Return the metrics of ranks by direction, see :func:`retrieval`.

    Args:
        of_directions: what :func:`tauten.evaluation.ranks` returns.
        pairs: who belongs to whom.
        ks: the Ks of hit@K and recall@K.
        groups: name of each x.
        group_of_y: name of each y; by default that of its x's.
        bootstrap: replicates.
        seed: seed of the resampling.

    Raises:
        ValueError: y's in several groups where ``group_of_y`` is not given.
    """
    if groups is not None and group_of_y is None and "y2x" in of_directions:
        group_of_y = propagate(groups, pairs, "group_of_y")
    out: dict[str, float] = {}
    for direction in of_directions:
        names, clusters = groups, None
        if direction == "y2x":
            first = pairs.inverse()
            names, clusters = group_of_y, first.targets[first.offsets[:-1]]
        scores = PerQuery.of(of_directions[direction], ks)
        out |= summarize(direction, scores, names, clusters, bootstrap, seed)
    return out
