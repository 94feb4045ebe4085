"""Per-sample state keyed by data set index, saved with the model.

Shapes: N samples of the data set, n rows of a batch, C columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from tauten.ids import check_ids

#: forward passes between two steps after which a forgotten step() is suspected
MANY = 1000


class SampleTable(nn.Module):
    """Numbers for each sample of a data set: moving averages, temperatures, their momentum.

    Values and visit counts are buffers, so they are in ``state_dict()`` and a resume continues
    with the same bits. A table sized up front refuses a state of another size; a table that grows
    takes whatever size was saved.

    Args:
        size: number of samples, or None to grow to the largest id written.
        columns: name of each column and the value of a sample that was never written.

    Raises:
        ValueError: a size below 1, no columns, an unknown id, a state of another data set.
    """

    values: Tensor
    visits: Tensor

    def __init__(self, size: int | None, columns: Mapping[str, float]) -> None:
        super().__init__()
        if size is not None and size < 1:
            raise ValueError(f"a table needs at least 1 sample, got {size}")
        if not columns:
            raise ValueError("a table needs at least one column")
        self.fixed = size is not None
        self.columns = tuple(columns)
        self._initial = tuple(float(value) for value in columns.values())
        self.register_buffer("values", self._blank(size or 0))
        self.register_buffer("visits", torch.zeros(size or 0, dtype=torch.int32))

    def __len__(self) -> int:
        return len(self.visits)

    def read(self, ids: Tensor) -> dict[str, Tensor]:
        """The columns of these samples.

        Args:
            ids: (n,) long.

        Returns:
            For each column (n,) on the device of ``ids``; the initial value where a growing table
            has not met the sample.
        """
        place, known = self._places(ids)
        found = self._blank(len(ids)).to(self.values)
        found[known] = self.values[place[known]]
        found = found.to(ids.device)
        return {name: found[:, c] for c, name in enumerate(self.columns)}

    def seen(self, ids: Tensor) -> Tensor:
        """(n,) bool, whether each sample has been written before."""
        place, known = self._places(ids)
        visited = torch.zeros_like(known)
        visited[known] = self.visits[place[known]] > 0
        return visited.to(ids.device)

    def write(self, ids: Tensor, values: Mapping[str, Tensor]) -> None:
        """Set columns of these samples and count the visit.

        Args:
            ids: (n,) long, each at most once.
            values: (n,) for each column to set.
        """
        check_ids(ids, len(self), grows=not self.fixed)
        if not self.fixed and len(ids):
            self._grow(int(ids.max()) + 1)
        place = ids.to(self.values.device)
        for name, column in values.items():
            self.values[place, self.columns.index(name)] = column.to(self.values)
        self.visits[place] += 1

    def _places(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The ids on the table's device, and whether the table has grown to each."""
        place = check_ids(ids, len(self), grows=not self.fixed).to(self.values.device)
        return place, place < len(self)

    def _blank(self, size: int) -> Tensor:
        return torch.tensor(self._initial).repeat(size, 1)

    def _grow(self, size: int) -> None:
        if size <= len(self):
            return
        more = max(size, 2 * len(self)) - len(self)
        self.values = torch.cat([self.values, self._blank(more).to(self.values)])
        self.visits = torch.cat([self.visits, self.visits.new_zeros(more)])

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        saved = state_dict.get(f"{prefix}visits")
        if saved is not None and len(saved) != len(self):
            if self.fixed:
                raise ValueError(
                    f"this state was saved for a data set of {len(saved)} samples, "
                    f"the table has {len(self)}"
                )
            self.values = self._blank(len(saved)).to(self.values)
            self.visits = self.visits.new_zeros(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Pending:
    """Observations of samples between two optimiser steps, from all forward passes and ranks."""

    def __init__(self) -> None:
        self._seen: list[tuple[Tensor, Tensor]] = []

    def add(self, ids: Tensor, *values: Tensor) -> None:
        """Note one forward pass: ids (n,) and as many vectors (n,) each time."""
        if len(self._seen) == MANY:
            warnings.warn(
                f"{MANY} training batches without a step(): call loss_fn.step() after each "
                "optimizer.step(), or eval() where nothing is learned",
                stacklevel=2,
            )
        self._seen.append((ids.detach(), torch.stack([v.detach() for v in values], dim=1)))

    def take(self) -> tuple[Tensor, Tensor] | None:
        """All ids and values (n, k) since the last call, the same on every rank."""
        seen, self._seen = self._seen, []
        mine = (torch.cat([i for i, _ in seen]), torch.cat([v for _, v in seen])) if seen else None
        if not (distributed.is_available() and distributed.is_initialized()):
            return mine
        parts: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, None if mine is None else [m.cpu() for m in mine])
        whole = [part for part in parts if part is not None]
        if not whole:
            return None
        device = whole[0][0].device if mine is None else mine[0].device
        ids, values = (torch.cat([part[k] for part in whole]).to(device) for k in (0, 1))
        return ids, values


def mean_by_sample(ids: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct ids (m,) in rising order, and the mean (m, k) of the rows of each, in float64.

    Equal ids are added from the smallest value up, so that neither the order in the batch nor the
    split over ranks changes the result.
    """
    distinct, group = torch.unique(ids, return_inverse=True)
    values = values.double()
    total = values.new_zeros(len(distinct), values.shape[1])
    for c in range(values.shape[1]):
        order = torch.argsort(values[:, c], stable=True)
        total[:, c].index_add_(0, group[order], values[order, c])
    return distinct, total / torch.bincount(group, minlength=len(distinct)).unsqueeze(1)
