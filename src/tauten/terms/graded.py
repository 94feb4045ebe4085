"""Agreement of the pairs' similarities with graded scores, as of sentence pairs (CoDiEmb, 2025)."""

from __future__ import annotations

import torch
from torch import Tensor

from tauten.pairwise.exchange import gather_columns
from tauten.pairwise.sides import pair_similarity, within_range
from tauten.terms.base import Across, AddedTerm, check_pairs, check_rows, positive


class _Graded(AddedTerm):
    """Base of the terms of N pairs with a score each; a subclass compares similarity and score."""

    def forward(self, x: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        """Return the term, a scalar; 0 where all scores are equal.

        Args:
            x: (N, d) embeddings of one side, N >= 2 over all processes.
            y: (N, d) embeddings of the other; x[i] and y[i] have a score.
            scores: (N,) how alike they are, of any scale.
        """
        check_pairs(x, y)
        group = self._group(len(x), x.device)
        check_rows("x", x, 2, group)
        check_rows("y", y, 2, group)
        if not isinstance(scores, Tensor) or scores.shape != (len(x),):
            shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(f"scores must be ({len(x)},), one for each pair, got {shape}")
        if scores.is_complex() or not bool(scores.isfinite().all()):
            raise ValueError("scores must be finite numbers")
        with torch.autocast(x.device.type, enabled=False):
            rows = torch.arange(len(x), device=x.device)
            cosines = pair_similarity(within_range(x), within_range(y), rows, cosine=True)
            scores = scores.detach().to(cosines)
            if group is not None:
                cosines, scores = gather_columns(cosines, group), group.gather(scores)
            if bool(scores.min() == scores.max()):
                return cosines.sum() * 0.0
            return self._of(cosines, scores)

    def _of(self, cosines: Tensor, scores: Tensor) -> Tensor:
        """Return the term of all pairs, (N,) both; the scores differ."""
        raise NotImplementedError


class Pearson(_Graded):
    """One minus the correlation of cosines and scores, P = 1 − corr(s, score).

    It sees neither shifts nor scales of the cosines, so it has no temperature.

    Args:
        ranks: see :class:`~tauten.terms.base.AddedTerm`.
    """

    def _of(self, cosines: Tensor, scores: Tensor) -> Tensor:
        s, y = cosines - cosines.mean(), scores - scores.mean()
        tiny = torch.finfo(s.dtype).tiny
        return 1 - (s * y).sum() / (s.square().sum().clamp(min=tiny) * y.square().sum()).sqrt()


class _Tempered(_Graded):
    """Base of those with a temperature."""

    def __init__(self, temperature: float = 0.05, *, ranks: Across = "auto") -> None:
        super().__init__(ranks)
        self.temperature = positive("temperature", temperature)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"


class RankKL(_Tempered):
    """Divergence of the pairs' softmax from that of their ranks.

    K = KL( softmax(r/τ) ‖ softmax(s/τ) ),  r_i in [0, 1] the rank of the score of pair i

    The softmax runs over the pairs. The largest score has the rank 1, the least 0, and equal ones
    share their mean. The public code divides it by N.

    Args:
        temperature: τ > 0 of both; published: 0.05.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: a temperature that is not above 0.
    """

    def _of(self, cosines: Tensor, scores: Tensor) -> Tensor:
        _, place, times = scores.unique(return_inverse=True, return_counts=True)
        before = times.cumsum(0) - times
        mean_rank = before + (times - 1) / 2
        ranks = mean_rank[place].to(cosines) / (len(cosines) - 1)
        wanted = (ranks / self.temperature).log_softmax(0)
        logs = (cosines / self.temperature).log_softmax(0)
        divergence: Tensor = (wanted.exp() * (wanted - logs)).sum()
        return divergence


class PreferenceOrder(_Tempered):
    """Each pair against those of a lower score, weighted by how much lower (PRO).

    O = −mean_k log[ exp(w_k·s_k/τ) / ( exp(w_k·s_k/τ) + Σ_j exp(w_kj·s_j/τ) ) ]

    over pairs j of a lower score than k, w_kj = score_k − score_j, w_k = max_j w_kj. Pairs that
    none is below are left out. O(N²) memory.

    Args:
        temperature: τ > 0; published: 0.05.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: a temperature that is not above 0.
    """

    def _of(self, cosines: Tensor, scores: Tensor) -> Tensor:
        weights = scores[:, None] - scores
        lower = weights > 0
        above = lower.any(1)
        weights, lower = weights[above], lower[above]
        logits = cosines / self.temperature
        highest = logits[above] * weights.amax(1)
        others = (logits * weights).masked_fill(~lower, -torch.inf)
        return (torch.logaddexp(highest, others.logsumexp(1)) - highest).mean()
