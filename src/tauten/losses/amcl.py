"""Several heads with a learned temperature of each pair (AMCL)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.checks import MOST, finite, whole
from tauten.controls import Control
from tauten.losses.finite import NonFiniteLossError, check_list, check_rows
from tauten.modules import StateModule
from tauten.pairwise.exchange import Ranks, gather_columns, several_processes
from tauten.pairwise.sides import EPSILON, compute_dtype, within_range
from tauten.terms.base import batch_mean

#: pairs whose temperatures are predicted at once
_PAIRS = 1 << 16


class PairTau(nn.Module):
    """A temperature of each pair: τ_ij = τ_lo + (τ_hi − τ_lo)·σ(MLP([z_i, z_j])).

    Args:
        dim: width of an embedding.
        low: τ_lo > 0.
        high: τ_hi > τ_lo.
        hidden: width of the hidden layer.
    """

    def __init__(self, dim: int, low: float, high: float, hidden: int = 32) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.first, self.second = nn.Linear(dim, hidden), nn.Linear(dim, hidden, bias=False)
        self.last = nn.Linear(hidden, 1)

    def forward(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return (...), the temperatures of rows (..., d) and columns (..., d), which broadcast."""
        rows, columns = (side.to(self.first.weight.dtype) for side in (rows, columns))
        hidden = F.relu(self.first(rows) + self.second(columns))
        share: Tensor = torch.sigmoid(self.last(hidden)).squeeze(-1)
        return self.low + (self.high - self.low) * share


class AMCL(StateModule):
    """Each pair by several heads, each with a temperature that it predicts: ``loss_fn(x, y)``.

    ℓ_i = Σ_c [ −s^c_ii/τ^c_ii + max_{n≠i} s^c_in/τ^c_in + β·Ω(τ^c_ii) − β·Ω(τ^c_in*) ]
    Ω(τ) = (d/2)·log τ + 1/τ

    n* is the negative of the maximum. A positive's best temperature lies inside the bounds,
    2(β − s)/(β·d), where β is above its cosine; the term of the negatives falls without bound
    with τ, so the bounds are needed. "Adaptive Multi-head Contrastive Learning" (Wang et al., ECCV
    2024), table 2 of its public code, whose module does not run as written. The temperatures are
    of pairs of samples and learned here, so it takes no control. Negatives are searched in
    blocks without a gradient, O(N·M·hidden) work; all pairs are never held.

    Args:
        heads: C >= 1.
        dim: width d of each head.
        low: least temperature, > 0.
        high: largest, > low.
        beta: β > 1, above every cosine.
        hidden: width of the hidden layer that predicts temperatures.
        ranks: ``"auto"`` for the negatives of all processes, ``"local"`` for one's own.

    Raises:
        ValueError: numbers out of range, or a control in the place of one.
    """

    def __init__(
        self,
        heads: int,
        dim: int,
        *,
        low: float = 0.05,
        high: float = 1.0,
        beta: float = 1.5,
        hidden: int = 32,
        ranks: Literal["auto", "local"] = "auto",
    ) -> None:
        super().__init__()
        for name, value in (("heads", heads), ("low", low), ("high", high)):
            if isinstance(value, Control):
                raise ValueError(
                    f"{value!r} cannot be AMCL's {name}: it predicts a temperature of each pair, "
                    "learned within two numbers, and takes no control"
                )
        for name, value in (("heads", heads), ("dim", dim), ("hidden", hidden)):
            if whole(name, value, -MOST) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 < finite("low", low) < finite("high", high):
            raise ValueError(
                f"temperatures need bounds 0 < low < high, got {low!r} and {high!r}: the term of "
                "the negatives falls without bound as theirs does"
            )
        if finite("beta", beta) <= 1:
            raise ValueError(
                f"beta must be above 1, the largest cosine, got {beta!r}: else a positive's "
                "temperature only falls to its bound"
            )
        if ranks not in ("auto", "local"):
            raise ValueError(f"ranks must be 'auto' or 'local', got {ranks!r}")
        self.dim, self.beta, self.ranks = dim, float(beta), ranks
        self.temperatures = nn.ModuleList(PairTau(dim, low, high, hidden) for _ in range(heads))

    def forward(self, x: Sequence[Tensor] | Tensor, y: Sequence[Tensor] | Tensor) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            x: C times (N, d), the heads' embeddings of one view.
            y: the same of the other; row i of both is a pair.

        Raises:
            ValueError: shapes that do not fit, or fewer than 2 samples.
            NonFiniteLossError: the loss is NaN or infinite.
        """
        check_list("x", x)
        check_list("y", y)
        heads = len(self.temperatures)
        shapes = {tuple(side.shape) for side in (*x, *y)}
        fit = len(x) == len(y) == heads and shapes == {(len(x[0]), self.dim)}
        if not fit or not all(side.is_floating_point() for side in (*x, *y)):
            raise ValueError(
                f"x and y must be lists of {heads} times (N, {self.dim}), floating, one for each "
                f"head, got {len(x)} and {len(y)} of {sorted(shapes)}"
            )
        rows = len(x[0])
        across = self.ranks == "auto" and several_processes()
        group = Ranks(rows, rows, x[0].device) if across else None
        if (rows if group is None else sum(group.rows)) < 2:
            raise ValueError("AMCL needs at least 2 samples, of which one is the other's negative")
        with torch.autocast(x[0].device.type, enabled=False):
            losses = [
                self._of_head(*sides, group) for sides in zip(x, y, self.temperatures, strict=True)
            ]
            loss = batch_mean(torch.stack(losses).sum(0), group)
        if not bool(torch.isfinite(loss.detach())):
            for name, side in (("x", x), ("y", y)):
                for head, part in enumerate(side):
                    check_rows(f"head {head} of {name}", part)
            raise NonFiniteLossError("the loss is NaN or infinite: an embedding may be")
        return loss

    def step(self, *, controls: bool = True) -> None:
        """Return at once: no schedule moves, and a loop calls it after each step of any loss."""

    def _of_head(self, x: Tensor, y: Tensor, tau: nn.Module, group: Ranks | None) -> Tensor:
        dtype = compute_dtype(x, y)
        x, y = (F.normalize(within_range(side).to(dtype), dim=1, eps=EPSILON) for side in (x, y))
        every = y if group is None else gather_columns(y, group)
        first = 0 if group is None else group.first
        near = tau(x, y)
        hard = every[self._hardest(x, every, tau, first)]
        far = tau(x, hard)
        pull: Tensor = self.beta * self._price(near) - (x * y).sum(1) / near
        push: Tensor = (x * hard).sum(1) / far - self.beta * self._price(far)
        return pull + push

    @torch.no_grad()
    def _hardest(self, x: Tensor, every: Tensor, tau: nn.Module, first: int) -> Tensor:
        """Return (N,) the column of the largest s/τ of each row but its own."""
        step, hardest = max(1, _PAIRS // max(len(every), 1)), []
        for start in range(0, len(x), step):
            rows = x[start : start + step]
            ratio = rows @ every.T / tau(rows[:, None], every[None])
            at = torch.arange(len(rows), device=x.device)
            ratio[at, at + start + first] = -torch.inf
            hardest.append(ratio.argmax(1))
        return torch.cat(hardest) if hardest else torch.empty(0, dtype=torch.long, device=x.device)

    def _price(self, tau: Tensor) -> Tensor:
        """Return Ω(τ)."""
        price: Tensor = self.dim / 2 * tau.log() + 1 / tau
        return price

    def extra_repr(self) -> str:
        return f"heads={len(self.temperatures)}, dim={self.dim}, beta={self.beta:g}"
