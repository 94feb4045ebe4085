"""Soft assignments of samples to columns whose shares of all samples are stated.

Shapes: n samples of this process, K columns, the same on all processes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from tauten.checks import finite, whole
from tauten.pairwise.exchange import Ranks, several_processes
from tauten.pairwise.sides import compute_dtype

#: how much of all samples each column is to have
Marginal = Tensor | Literal["uniform"]


@torch.no_grad()
def sinkhorn(
    scores: Tensor,
    marginal: Marginal,
    *,
    eps: float = 0.05,
    iterations: int = 3,
    ranks: Literal["auto", "local"] = "auto",
) -> Tensor:
    """Return the share of each column in each sample's assignment, without a gradient.

    Q ∝ exp(scores/ε), scaled in turn so that column k has the share m_k of all samples, and so that
    the shares of each sample have the sum 1, which is the last step. With enough iterations both
    hold; SwAV takes 3, with ε = 0.05. Over processes the samples are those of all.

    Args:
        scores: (n, K), such as cosines with prototypes.
        marginal: m, (K,) > 0, scaled to the sum 1; ``"uniform"`` for 1/K each, which splits a
            frequent class over several columns and fills up rare ones.
        eps: ε > 0, the width of the assignment.
        iterations: >= 1.
        ranks: ``"local"`` takes the samples of this process alone.

    Raises:
        ValueError: scores or a marginal that do not fit, ε or iterations out of range.
    """
    return log_sinkhorn(scores, marginal, eps=eps, iterations=iterations, ranks=ranks).exp()


@torch.no_grad()
def log_sinkhorn(
    scores: Tensor,
    marginal: Marginal,
    *,
    eps: float = 0.05,
    iterations: int = 3,
    ranks: Literal["auto", "local"] = "auto",
) -> Tensor:
    """Return the logs of the shares of :func:`sinkhorn`, which small shares do not underflow."""
    if not isinstance(scores, Tensor) or scores.dim() != 2 or not scores.is_floating_point():
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"scores must be floating (N, K), got {shape}")
    if finite("eps", eps) <= 0:
        raise ValueError(f"eps must be > 0, got {eps!r}")
    logs = scores.detach().to(compute_dtype(scores)) / eps
    target = _log_marginal(marginal, logs)
    several = ranks == "auto" and several_processes()
    group = Ranks(len(logs), len(logs), logs.device) if several else None
    total = len(logs) if group is None else sum(group.rows)
    for _ in range(whole("iterations", iterations, 1)):
        logs = logs + (target + math.log(max(total, 1)) - _over_samples(logs, group))
        logs = logs.log_softmax(1)
    return logs


def _log_marginal(marginal: Marginal, like: Tensor) -> Tensor:
    """Return (K,) the log of the share of each column."""
    columns = like.shape[1]
    if isinstance(marginal, str):
        if marginal != "uniform":
            raise ValueError(f"marginal must be (K,) shares or 'uniform', got {marginal!r}")
        return like.new_full((columns,), -math.log(columns))
    if not isinstance(marginal, Tensor) or marginal.shape != (columns,):
        shape = tuple(marginal.shape) if isinstance(marginal, Tensor) else type(marginal).__name__
        raise ValueError(f"marginal must be ({columns},), a share of each column, got {shape}")
    shares = marginal.detach().to(like)
    if not bool(((shares > 0) & shares.isfinite()).all()):
        raise ValueError(
            f"marginal must be finite and > 0, got {float(shares.min()):g} .. "
            f"{float(shares.max()):g}: leave out columns that are to have no sample"
        )
    return (shares / shares.sum()).log()


def _over_samples(logs: Tensor, group: Ranks | None) -> Tensor:
    """Return (K,) the log-sum-exp over the samples of all processes."""
    peak = torch.cat([logs, logs.new_full((1, logs.shape[1]), -torch.inf)]).amax(0)
    if group is not None:
        peak = group.max_(peak)
    sums = (logs - peak).exp().sum(0)
    if group is not None:
        sums = group.sum_(sums)
    return sums.log() + peak
