"""Cross-modal retrieval both ways, by groups, with bootstrap intervals over queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tauten.evaluation.bootstrap import percentile_interval, resample, weighted_medians
from tauten.evaluation.correspondence import correspondence, propagate
from tauten.evaluation.ranks import DIRECTIONS, QueryRanks, ranks

TIES = (
    "Ties are counted pessimistically: a candidate that does not match the query and scores the "
    "same as a match, up to rounding of the dot product, ranks ahead of it."
)
RESERVED = frozenset({"low", "high"})


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
) -> dict[str, float]:
    """Exact retrieval metrics in both directions, overall and per group, with 95 % intervals.

    Ranks are exact (see :mod:`tauten.evaluation.ranks`), ties pessimistic: a non-matching candidate
    with an equal score ranks ahead. Keys, with D one of "x2y", "y2x" and G a group:

    * ``D/hit@K``: fraction of queries with any match in the top K ("recall@K" of CLIP papers);
    * ``D/recall@K``: mean over queries of the fraction of its matches in the top K;
    * ``D/median_rank``, ``D/mean_rank``: of the best match, 1 is the top;
    * ``D/mAP``: mean over queries of textbook binary average precision;
    * ``D/n``: number of queries;
    * ``.../G``: the same over the queries of that group (ranked against *all* candidates);
    * ``.../low``, ``.../high``: percentile bootstrap over the queries in question.

    The captions of one image are resampled as if independent, so with several captions per image
    the intervals of y2x are somewhat too narrow.

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

    Returns:
        A flat dict of floats.

    Raises:
        ValueError: See :func:`tauten.evaluation.ranks`; also a K < 1, groups of the wrong length,
            with a reserved or ambiguous name, or bootstrap < 0.
    """
    bad = [k for k in ks if k < 1]
    if bad or not ks:
        raise ValueError(f"ks must be positive integers, at least one, not {list(ks)}")
    if bootstrap < 0:
        raise ValueError(f"bootstrap must be 0 or more replicates, not {bootstrap}")
    directions = tuple(directions)
    if groups is not None:
        _check_groups("groups", groups, "x", len(x))
    if group_of_y is not None:
        _check_groups("group_of_y", group_of_y, "y", len(y))
    found = ranks(
        x,
        y,
        y_of_x,
        directions=directions,
        normalize=normalize,
        tile=tile,
        one_pass=one_pass,
        resume=resume,
        progress=progress,
    )
    if groups is not None and group_of_y is None and "y2x" in directions:
        group_of_y = propagate(groups, correspondence(y_of_x, len(x), len(y)), "group_of_y")
    out: dict[str, float] = {}
    for direction in directions:
        names = groups if direction == "x2y" else group_of_y
        out |= _summary(direction, found[direction], ks, names, bootstrap, seed)
    return out


def _check_groups(argument: str, groups: Sequence[str], side: str, expected: int) -> None:
    if len(groups) != expected:
        raise ValueError(
            f"{argument} has {len(groups)} names for {expected} {side}: give one name per {side}"
        )
    for name in set(groups):
        if not isinstance(name, str) or not name or "/" in name or name in RESERVED:
            raise ValueError(
                f"{argument} contains {name!r}: a group name must be a non-empty string without "
                '"/" and other than "low", "high"'
            )


def _summary(
    direction: str,
    found: QueryRanks,
    ks: Sequence[int],
    names: Sequence[str] | None,
    bootstrap: int,
    seed: int,
) -> dict[str, float]:
    means = {f"hit@{k}": found.hit(k) for k in ks}
    means |= {f"recall@{k}": found.recall(k) for k in ks}
    means |= {"mean_rank": found.best.double(), "mAP": found.average_precision()}
    out = _with_interval(direction, "", means, found.best.double(), bootstrap, seed)
    for group in sorted(set(names or ())):
        rows = torch.tensor([i for i, name in enumerate(names or ()) if name == group])
        part = {name: score[rows] for name, score in means.items()}
        best = found.best[rows].double()
        out |= _with_interval(direction, f"/{group}", part, best, bootstrap, seed)
    return out


def _with_interval(
    direction: str,
    suffix: str,
    means: dict[str, Tensor],
    best: Tensor,
    bootstrap: int,
    seed: int,
) -> dict[str, float]:
    keys = [f"{direction}/{name}{suffix}" for name in (*means, "median_rank")]
    score_QK = torch.stack(list(means.values()), dim=1)
    once = torch.ones(1, len(best), dtype=torch.float64)
    value_K = torch.cat([score_QK.mean(dim=0), weighted_medians(best, once)])
    out = dict(zip(keys, value_K.tolist(), strict=True))
    out[f"{direction}/n{suffix}"] = float(len(best))
    if bootstrap:
        generator = torch.Generator().manual_seed(seed)
        drawn = [
            torch.cat([weight @ score_QK / len(best), weighted_medians(best, weight)[:, None]], 1)
            for weight in resample(len(best), bootstrap, generator)
        ]
        low_K, high_K = percentile_interval(torch.cat(drawn))
        for key, low, high in zip(keys, low_K.tolist(), high_K.tolist(), strict=True):
            out |= {f"{key}/low": low, f"{key}/high": high}
    return out
