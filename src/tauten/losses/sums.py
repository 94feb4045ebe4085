"""Sums and means over the anchors of all processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sum_and_count(parts: Sequence[Tensor]) -> Tensor:
    """Return (2, k) the sum and the number of the values of each of k vectors, detached."""
    sums = torch.stack([part.detach().sum() for part in parts])
    return torch.stack([sums, sums.new_tensor([float(len(part)) for part in parts])])


def mean_of(sums: Tensor) -> Tensor:
    """Return () the mean of the means, from the sum and the number of values of each, (2, k)."""
    return (sums[0] / sums[1]).mean()
