"""Penalty of a temperature: entropy of the repelling force, and the hard loss.

Wang & Liu 2021, "Understanding the Behaviour of Contrastive Loss". Shape suffixes: N anchors, b of
one block, M candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.evaluation.checks import group_names, integers, numbers, positive, whole
from tauten.evaluation.class_scores import BUDGET
from tauten.evaluation.correspondence import sides
from tauten.evaluation.summary import PerQuery, summarize


@torch.no_grad()
def penalty(
    x: Any,
    y: Any,
    tau: Any,
    groups: Sequence[str] | None = None,
    *,
    own: Any = None,
    share: float = 0.01,
    bootstrap: int = 1000,
    seed: int = 0,
    budget: int = BUDGET,
) -> dict[str, float]:
    """Return how each anchor's temperature spreads its force over negatives.

    With s the cosines, p the own candidate of anchor i, and the others its negatives:

    * ``penalty_entropy``: mean of −Σ_j r_ij log r_ij, with the relative penalty
      r_ij = exp(s_ij / τ_i) / Σ_{k≠p} exp(s_ik / τ_i) of each negative. It does not fall as τ
      rises, from 0 (one negative takes all) to log(M − 1) (all alike);
    * ``hard_loss``: mean of −log[e^{s_ip/τ_i} / (e^{s_ip/τ_i} + Σ_{k hard} e^{s_ik/τ_i})], where
      hard are the ⌈share·(M − 1)⌉ negatives of highest score, and those that tie with the last;
    * ``n``, ``.../GROUP``, ``.../low``, ``.../high`` as :func:`tauten.evaluation.retrieval` has
      them; the intervals are percentile bootstrap.

    Args:
        x: (N, d) anchors.
        y: (M, d) candidates.
        tau: one temperature, or (N,) of each anchor, such as ``control.at(index)``.
        groups: a name per x.
        own: (N,) position of each anchor's candidate; by default i for anchor i.
        share: share of the negatives that are hard, in (0, 1].
        bootstrap: replicates; 0 leaves the intervals out.
        seed: seed of the resampling.
        budget: at most so many scores exist at any time, but at least those of one anchor.

    Raises:
        ValueError: shapes that do not fit, τ that is not positive, fewer than 2 candidates, a share
            outside (0, 1].
    """
    whole(bootstrap, "bootstrap", 0)
    whole(budget, "budget", 1)
    rows, others = sides(x, y, True)
    tau_N = numbers(tau, "tau").double()
    tau_N = tau_N.expand(len(rows)) if tau_N.ndim == 0 else tau_N
    own_N = torch.arange(len(rows)) if own is None else integers(own, "own")
    if tau_N.shape != (len(rows),) or own_N.shape != (len(rows),):
        raise ValueError(
            f"tau must be one number or one for each of {len(rows)} x, and own one position each, "
            f"got shapes {tuple(tau_N.shape)} and {tuple(own_N.shape)}"
        )
    bad = ~(tau_N.isfinite() & (tau_N > 0))
    if bool(bad.any()):
        raise ValueError(f"tau must be positive and finite, got {float(tau_N[bad][0])}")
    if len(others) < 2 or int(own_N.min()) < 0 or int(own_N.max()) >= len(others):
        raise ValueError(
            f"own spans {int(own_N.min())}..{int(own_N.max())} for {len(others)} candidates: there "
            "must be 2 or more, and own within them"
        )
    if positive(share, "share") > 1:
        raise ValueError(f"share must be in (0, 1], not {share}")
    if groups is not None:
        group_names(groups, "groups", "x", len(rows))
    hard = math.ceil(share * (len(others) - 1))
    parts = [
        _scores(rows[i], others, tau_N[i], own_N[i], hard)
        for i in torch.arange(len(rows)).split(max(1, budget // len(others)))
    ]
    return summarize("", PerQuery.joined(parts), groups, None, bootstrap, seed)


def _scores(rows_b: Tensor, others: Tensor, tau_b: Tensor, own_b: Tensor, hard: int) -> PerQuery:
    score_bM = (rows_b @ others.T).double().cpu()
    place_b = torch.arange(len(score_bM))
    positive_b = score_bM[place_b, own_b] / tau_b
    score_bM[place_b, own_b] = -torch.inf
    logit_bM = score_bM / tau_b[:, None]
    penalty_bM = logit_bM.softmax(dim=1)
    least_b = score_bM.topk(hard, dim=1).values[:, -1]
    kept_bM = logit_bM.masked_fill(score_bM < least_b[:, None], -torch.inf)
    kept_bM[place_b, own_b] = positive_b
    return PerQuery(
        means={
            "penalty_entropy": torch.special.entr(penalty_bM).sum(dim=1),
            "hard_loss": kept_bM.logsumexp(dim=1) - positive_b,
        }
    )
