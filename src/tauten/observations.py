"""Observations of samples between two optimiser steps, and their means sample by sample.

Shapes: n observations, m distinct samples, k numbers of each.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from tauten.messages import Ragged, own_device, several_processes

#: forward passes between two steps after which a forgotten step() is suspected
MANY = 1000


class Samples:
    """Ids of samples, and which of them are the same, arrived out once.

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
        self._of_all: tuple[tuple[Samples, Tensor] | None] | None = None
        self._room = Ragged()

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
        if several_processes() and self._of_all is None:
            exchange([self], self._room)
        if self._of_all is not None:
            (whole,), self._of_all = self._of_all, None
            return whole
        return self.leave()

    def leave(self) -> tuple[Samples, Tensor] | None:
        """Take what this process noted since the last step."""
        seen, self._seen = self._seen, []
        if len(seen) > 1:
            ids = torch.cat([samples.ids for samples, _ in seen])
            seen = [(Samples(ids), torch.cat([values for _, values in seen]))]
        return seen[0] if seen else None

    def arrive(self, whole: tuple[Samples, Tensor] | None) -> None:
        """Keep what all processes noted, for the next :meth:`take`."""
        self._of_all = (whole,)


def pending(modules: Iterable[object]) -> list[Pending]:
    """Return what these modules keep in mappings of observations for the next step."""
    values = [value for module in modules for value in vars(module).values()]
    mappings = [value for value in values if isinstance(value, dict)]
    return [one for each in mappings for one in each.values() if isinstance(one, Pending)]


def exchange(noted: Sequence[Pending], room: Ragged) -> None:
    """Let each have what all processes noted since the last step, by one message.

    Args:
        noted: the same ones, in the same order, on all processes.
        room: of the messages of this kind so far.
    """
    device, head, body = own_device(), [], []
    places = []
    for one in noted:
        seen = one.leave()
        head += [0, 0] if seen is None else list(seen[1].shape)
        places.append(None if seen is None else seen[1].device)
        if seen is not None:
            samples, values = seen
            body += [
                samples.ids.to(device),
                values.to(device, torch.float64).view(-1).view(torch.int64),
            ]
    flat = torch.cat(body) if body else torch.zeros(0, dtype=torch.int64, device=device)
    shapes = torch.tensor(head, dtype=torch.int64, device=device)
    heads, parts = room.gather(shapes, flat.unsqueeze(1))
    starts = [0] * len(parts)
    for at, (one, place) in enumerate(zip(noted, places, strict=True)):
        arrived = []
        for rank, (sizes, part) in enumerate(zip(heads, parts, strict=True)):
            n, k = sizes[2 * at : 2 + 2 * at]
            ids, values = part[starts[rank] :, 0][: n * (1 + k)].split([n, n * k])
            starts[rank] += n * (1 + k)
            if n:
                arrived.append((ids, values.view(torch.float64).view(n, k)))
        if not arrived:
            one.arrive(None)
            continue
        ids, values = (
            torch.cat(column).to(place or device) for column in zip(*arrived, strict=True)
        )
        one.arrive((Samples(ids), values))


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
