"""Base of all terms: the processes, and a value of the whole batch with an exact gradient."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tauten.modules import refuse_vmap
from tauten.pairwise import PairMask, Reduction, Scaled, reduce_pairs
from tauten.pairwise.exchange import Ranks, several_processes
from tauten.pairwise.reduction import compute_dtype

Across = Literal["auto", "local"]


class AddedTerm(nn.Module):
    """Base of the terms that are added to a contrastive loss.

    Over several processes each calls the term on its own shard. The value is that of the whole
    batch. The mean over processes of the gradients, which data parallelism takes, is the gradient
    of the whole batch.

    Args:
        ranks: ``"auto"`` takes all processes together; ``"local"`` takes this one's rows alone.
    """

    def __init__(self, ranks: Across = "auto") -> None:
        super().__init__()
        if ranks not in ("auto", "local"):
            raise ValueError(f"ranks must be 'auto' or 'local', got {ranks!r}")
        self.ranks = ranks

    def _group(self, rows: int, device: torch.device) -> Ranks | None:
        """Return the processes that share the batch; None if this one is alone."""
        if self.ranks == "local" or not several_processes():
            return None
        return Ranks(rows, rows, device)


def check_rows(name: str, vectors: Tensor, least: int, group: Ranks | None) -> int:
    """Return how many rows all processes have together.

    Raises:
        ValueError: no (N, d) matrix of floating type, or fewer rows than needed.
    """
    if not isinstance(vectors, Tensor) or vectors.dim() != 2 or not vectors.is_floating_point():
        shape = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
        raise ValueError(f"{name} must be (N, d) embeddings of a floating type, got {shape}")
    refuse_vmap(name, vectors)
    rows = len(vectors) if group is None else sum(group.rows)
    if rows < least:
        raise ValueError(f"{name} needs at least {least} rows in the batch, got {rows}")
    return rows


def check_pairs(x: Tensor, y: Tensor) -> None:
    """Refuse sides that are not row by row a pair."""
    if x.shape != y.shape:
        raise ValueError(
            f"x[i] and y[i] must be a pair, got shapes {tuple(x.shape)} and {tuple(y.shape)}"
        )


def positive(name: str, value: float) -> float:
    """Return the value of an option that must be a number above 0."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number above 0, got {value!r}")
    return float(value)


def batch_mean(per_row: Tensor, group: Ranks | None) -> Tensor:
    """Return the mean of (n,) numbers over the rows of all processes."""
    if group is None:
        return per_row.mean()
    return _whole(per_row.sum() / sum(group.rows), group)


def batch_log_sum_exp(per_row: Tensor, group: Ranks | None) -> Tensor:
    """Return log Σ exp of (n,) numbers over the rows of all processes."""
    if group is None:
        return per_row.logsumexp(0)
    every = group.gather(per_row.detach(), group.rows)
    value = every.logsumexp(0)
    share = (per_row.detach() - value).exp()
    # the derivative of the log-sum-exp is this share of each row
    part = (share * per_row).sum() * group.size
    return part - part.detach() + value


def off_diagonal_lse(
    x: Tensor,
    y: Tensor,
    scale: float,
    group: Ranks | None,
    same: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return (n,) log Σ_{j≠i} exp(scale·s_ij) for unit rows of x against those of y.

    Pairs whose ids ``same`` agree are left out too; −∞ where none is left.
    """
    first = 0 if group is None else group.first
    column = torch.arange(len(x), device=x.device) + first
    number = torch.full((1, 1), scale, device=x.device, dtype=compute_dtype(x, y))
    (lse,) = reduce_pairs(
        x,
        y,
        [Reduction("rows", "logsumexp", Scaled(), (number,))],
        PairMask(column, True, () if same is None else (same,), diagonal=first),
        cosine=True,
        ranks=group,
    )
    return lse


def log_pairs(rows: int) -> float:
    """Return the log of the number of ordered pairs of different rows."""
    return math.log(rows) + math.log(rows - 1)


def _whole(part: Tensor, group: Ranks) -> Tensor:
    value = group.sum_(part.detach().clone())
    part = part * group.size
    return part - part.detach() + value
