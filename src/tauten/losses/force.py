"""The running mean that ``force="equalized"`` divides by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class RunningMean(nn.Module):
    """Mean over all training batches so far, updated only by :meth:`commit`.

    The forward pass is pure: it divides by the mean of the steps done, and by the batch's own
    before the first, so that repeating a batch (finite differences, gradient caching) repeats
    its value.
    """

    mean: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(()))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self._pending: tuple[Tensor, int] | None = None

    def forward(self, means: Sequence[Tensor], training: bool) -> Tensor:
        """The running mean; in training the batch's means are noted for the next commit."""
        batch = torch.stack(list(means)).mean()
        if training and torch.is_grad_enabled():
            total, times = self._pending or (torch.zeros_like(batch), 0)
            self._pending = (total + batch, times + 1)
        return torch.where(self.count > 0, self.mean.to(batch), batch)

    def commit(self) -> None:
        """Add what was seen since the last commit as one step's value."""
        if self._pending is not None:
            total, times = self._pending
            seen = (total / times).to(self.mean)
            self._pending = None
            self.count += 1
            self.mean += (seen - self.mean) / self.count
