"""Multi-instance retrieval with graded relevancy: mAP and nDCG of EPIC-KITCHENS-100 (EK-100).

Damen et al. 2022, "Rescaling Egocentric Vision"; metrics from Wray et al. 2019 (JPoSE), as used by
LaViLa, AVION and MM-TS. Shape suffixes: N queries, M candidates, n rows of one chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tauten.evaluation.bootstrap import percentile_interval, resample
from tauten.evaluation.checks import tensor, whole

BUDGET = 2**23
_KEYS = ("nDCG", "mAP_official", "mAP_textbook")


def multi_instance_retrieval(
    similarity: Any, relevancy: Any, *, bootstrap: int = 0, seed: int = 0
) -> dict[str, float]:
    """Compute nDCG and mAP of a similarity matrix against a graded relevancy matrix.

    For a query whose candidates, ranked by similarity, have relevancies rel_1, rel_2, ...:

    * nDCG: with k the number of candidates of rel > 0, the sum of rel_r / log2(r + 1) over r <= k,
      divided by the same sum in the ideal order;
    * mAP_official: the mean, over ranks r with rel_r = 1, of (rel_1 + ... + rel_r) / r. The running
      sum counts partial relevancies, so it is at least the textbook value; published EK-100 numbers
      are this one;
    * mAP_textbook: the same with rel_r = 1 counted as 1 and anything less as 0.

    Ties are counted pessimistically: of candidates with equal similarity the less relevant come
    first. A query without any candidate of rel = 1 has no mAP (the official script divides 0 by 0)
    and one without any rel > 0 has no nDCG: they are left out of that mean and counted.

    Args:
        similarity: (N, M) similarities of x (rows: videos) and y (columns: sentences).
        relevancy: (N, M) relevancies in [0, 1].
        bootstrap: replicates of 95 % intervals over queries, ``.../low`` and ``.../high``, in which
            a query without a value counts for nothing. 0 for none.
        seed: seed of the resampling.

    Returns:
        ``nDCG/x2y``, ``nDCG/y2x``, ``nDCG/mean`` (mean of the two directions), the same for
        ``mAP_official`` and ``mAP_textbook``; ``n/D`` queries, ``n_without_exact/D`` left out of
        mAP and ``n_without_relevant/D`` left out of nDCG, for D in x2y, y2x. A mean over no
        query is NaN.

    Raises:
        ValueError: Not two matrices of the same shape, empty, similarity not finite, relevancy
            outside [0, 1], or bootstrap < 0.
    """
    whole(bootstrap, "bootstrap", 0)
    whole(seed, "seed")
    similarity, relevancy = _checked(similarity, relevancy)
    out: dict[str, float] = {}
    drawn: dict[str, Tensor] = {}
    for name, sim, rel in (
        ("x2y", similarity, relevancy),
        ("y2x", similarity.T, relevancy.T),
    ):
        scores = _all_queries(sim, rel)
        out |= {
            f"{key}/{name}": float(row.nanmean()) for key, row in zip(_KEYS, scores, strict=True)
        }
        out[f"n/{name}"] = float(scores.shape[1])
        out[f"n_without_relevant/{name}"] = float(scores[0].isnan().sum())
        out[f"n_without_exact/{name}"] = float(scores[1].isnan().sum())
        if bootstrap:
            replicates = _means(scores, bootstrap, seed)
            drawn |= {f"{key}/{name}": replicates[:, k] for k, key in enumerate(_KEYS)}
    for key in _KEYS:
        out[f"{key}/mean"] = (out[f"{key}/x2y"] + out[f"{key}/y2x"]) / 2
        if bootstrap:
            drawn[f"{key}/mean"] = (drawn[f"{key}/x2y"] + drawn[f"{key}/y2x"]) / 2
    for key, values in drawn.items():
        if values.isfinite().all():
            low, high = percentile_interval(values)
            out |= {f"{key}/low": float(low), f"{key}/high": float(high)}
    return out


def multi_instance_scores(similarity: Any, relevancy: Any) -> dict[str, Tensor]:
    """Return nDCG and mAP of each row as a query, see :func:`multi_instance_retrieval`.

    Args:
        similarity: (N, M) similarities of N queries and M candidates; of the other direction, its
            transpose.
        relevancy: (N, M) relevancies in [0, 1].

    Returns:
        ``nDCG``, ``mAP_official`` and ``mAP_textbook``, (N,) float64 each; NaN where a query has
        no candidate of rel > 0 (nDCG) or of rel = 1 (mAP).

    Raises:
        ValueError: as :func:`multi_instance_retrieval`.
    """
    scores = _all_queries(*_checked(similarity, relevancy))
    return dict(zip(_KEYS, scores, strict=True))


def _checked(similarity: Any, relevancy: Any) -> tuple[Tensor, Tensor]:
    similarity, relevancy = tensor(similarity, "similarity"), tensor(relevancy, "relevancy")
    for name, matrix in (("similarity", similarity), ("relevancy", relevancy)):
        if matrix.is_complex():
            raise ValueError(f"{name} must hold real numbers, not {matrix.dtype}")
    if similarity.device != relevancy.device:
        raise ValueError(
            f"similarity is on {similarity.device} but relevancy on {relevancy.device}: move one"
        )
    if similarity.ndim != 2 or similarity.shape != relevancy.shape or not similarity.numel():
        raise ValueError(
            "similarity and relevancy must be two non-empty matrices of the same shape, not "
            f"{tuple(similarity.shape)} and {tuple(relevancy.shape)}"
        )
    finite = similarity.isfinite()
    if not finite.all():
        rows = (~finite).any(dim=1).nonzero().flatten()
        raise ValueError(f"similarity has NaN or inf in {len(rows)} rows, first {int(rows[0])}")
    valid = (relevancy >= 0) & (relevancy <= 1)
    if not valid.all():
        row, column = (~valid).nonzero()[0].tolist()
        raise ValueError(
            f"relevancy must lie in [0, 1]; [{row}, {column}] is {float(relevancy[row, column])}"
        )
    return similarity, relevancy


def _means(scores: Tensor, replicates: int, seed: int) -> Tensor:
    """Return (R, 3) means over queries drawn with replacement, of those that have a value."""
    generator = torch.Generator().manual_seed(seed)
    known = (~scores.isnan()).double().T.cpu()
    values = scores.nan_to_num().T.cpu()
    drawn = resample(len(values), replicates, generator)
    return torch.cat([weight @ values / (weight @ known) for weight in drawn])


@torch.no_grad()
def _all_queries(sim_NM: Tensor, rel_NM: Tensor) -> Tensor:
    """Return (3, N): nDCG, official AP, textbook AP of each query; NaN where undefined."""
    n, m = sim_NM.shape
    rank_M = torch.arange(1, m + 1, dtype=torch.float64, device=sim_NM.device)
    step = max(1, BUDGET // m)
    parts = [
        _per_query(sim_NM[i : i + step], rel_NM[i : i + step], rank_M) for i in range(0, n, step)
    ]
    return torch.cat(parts, dim=1)


def _per_query(sim_nM: Tensor, rel_nM: Tensor, rank_M: Tensor) -> Tensor:
    """Return (3, n): nDCG, official AP, textbook AP of each query; NaN where undefined."""
    score, order = sim_nM.sort(dim=1, descending=True)
    ranked = rel_nM.gather(1, order).double()
    tied = (score.diff(dim=1) == 0).any(dim=1)
    ranked[tied] = _worst_first(sim_nM[tied], rel_nM[tied]).double()
    ideal = rel_nM.sort(dim=1, descending=True).values.double()
    discount = torch.log2(rank_M + 1).reciprocal()
    counted = discount * (rank_M <= (rel_nM > 0).sum(dim=1, keepdim=True))
    ndcg = (ranked * counted).sum(dim=1) / (ideal * counted).sum(dim=1)
    exact = (ranked == 1).double()
    ap = [
        (running.cumsum(dim=1) / rank_M * exact).sum(dim=1) / exact.sum(dim=1)
        for running in (ranked, exact)
    ]
    return torch.stack([ndcg, *ap])


def _worst_first(sim_nM: Tensor, rel_nM: Tensor) -> Tensor:
    """Return relevancies by descending similarity, ascending among equal similarities."""
    rel, order = rel_nM.sort(dim=1)
    by_sim = sim_nM.gather(1, order).argsort(dim=1, descending=True, stable=True)
    return rel.gather(1, by_sim)
