"""Observations of samples between two optimiser steps, and their means sample by sample.

Shapes: n observations, m distinct samples, k numbers of each.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed

#: () whether there is a group of processes
_grouped: Callable[[], bool] = getattr(distributed, "is_initialized", bool)

#: forward passes between two steps after which a forgotten step() is suspected
MANY = 1000


class Samples:
    """Ids of samples, and which of them are the same, found out once.

    Args:
        ids: (n,) long.
    """

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids.clone()  # a loop may fill its buffer of ids with the next batch
        self._groups: tuple[Tensor, Tensor] | None = None

    def groups(self) -> tuple[Tensor, Tensor]:
        """Return distinct ids (m,) in rising order, and the place (n,) of each id among them."""
        if self._groups is None:
            self._groups = torch.unique(self.ids, return_inverse=True)
        return self._groups


class Pending:
    """Observations of samples between two optimiser steps, from all forward passes and ranks."""

    def __init__(self) -> None:
        self._seen: list[tuple[Samples, Tensor]] = []

    def add(self, samples: Samples, *values: Tensor) -> None:
        """Note one forward pass: n samples and as many vectors (n,) each time."""
        if len(self._seen) == MANY:
            warnings.warn(
                f"{MANY} training batches without a step(): call loss_fn.step() after each "
                "optimizer.step(), or eval() where nothing is learned",
                stacklevel=2,
            )
        columns = [column.detach() for column in values]
        rows = columns[0].unsqueeze(1) if len(columns) == 1 else torch.stack(columns, dim=1)
        self._seen.append((samples, rows))

    def take(self) -> tuple[Samples, Tensor] | None:
        """Take all samples and values (n, k) since the last call, the same on every process."""
        seen, self._seen = self._seen, []
        if len(seen) > 1:
            ids = torch.cat([samples.ids for samples, _ in seen])
            seen = [(Samples(ids), torch.cat([values for _, values in seen]))]
        if not _grouped():
            return seen[0] if seen else None
        parts: list[Any] = [None] * distributed.get_world_size()
        given = [(samples.ids.cpu(), values.cpu()) for samples, values in seen]
        distributed.all_gather_object(parts, given)
        whole = [pair for part in parts for pair in part]
        if not whole:
            return None
        device = seen[0][1].device if seen else whole[0][0].device
        ids, values = (torch.cat([pair[k] for pair in whole]).to(device) for k in (0, 1))
        return Samples(ids), values


def mean_by_sample(samples: Samples, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return distinct ids (m,), and the mean (m, k) of the rows of each, in float64.

    Equal ids are added from the smallest value up, so that neither the order in the batch nor the
    split over processes changes the result.
    """
    distinct, group = samples.groups()
    values = values.double()
    if distinct.shape == group.shape:
        return samples.ids, values
    total = values.new_zeros(len(distinct), values.shape[1])
    for c in range(values.shape[1]):
        order = torch.argsort(values[:, c], stable=True)
        total[:, c].index_add_(0, group[order], values[order, c])
    counts = torch.zeros_like(distinct).index_add_(0, group, torch.ones_like(group))
    return distinct, total / counts.unsqueeze(1)


def log_mean_by_sample(samples: Samples, logs: Tensor) -> tuple[Tensor, Tensor]:
    """Return distinct ids (m,), and the log (m,) of the mean of exp(logs) of each.

    As :func:`mean_by_sample`, for numbers whose exponentials may over- or underflow.
    """
    distinct, group = samples.groups()
    logs = logs.double().flatten()
    if distinct.shape == group.shape:
        return samples.ids, logs
    peak = logs.new_full((len(distinct),), -float("inf"))
    peak.scatter_reduce_(0, group, logs, "amax")
    shift = peak.masked_fill(peak.isinf(), 0.0)
    _, means = mean_by_sample(samples, torch.exp(logs - shift[group]).unsqueeze(1))
    return distinct, shift + means[:, 0].log()
