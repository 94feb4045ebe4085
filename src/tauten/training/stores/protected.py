"""Batches of protected groups beside those of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.data.problems import Skipped
from tauten.structure.cells import some
from tauten.training import processes
from tauten.training.stores.store import Reads, Store

_FEWEST = 2


class ProtectedStore:
    """A store whose batches bring some samples of each protected group with them.

    Which ones is drawn from torch's global generator at the moment of the call. Each process draws
    from its own part of the group, so that none is drawn twice.

    Args:
        store: of the training split.
        rows: of each group the positions of its samples, by its name.
        samples: of each group in a batch, of all processes together; all of them where there are
            fewer.
    """

    def __init__(self, store: Store, rows: Mapping[str, Tensor], samples: int) -> None:
        self.store, self.rows = store, rows
        self.samples = samples

    @property
    def skipped(self) -> Skipped | None:
        """Samples that could not be used, see :class:`Store`."""
        return self.store.skipped

    @skipped.setter
    def skipped(self, counted: Skipped | None) -> None:
        self.store.skipped = counted

    def __len__(self) -> int:
        return len(self.store)

    def reads(self, seed: int) -> Reads:
        """Return what the loader reads of the batches themselves."""
        return self.store.reads(seed)

    def batch(self, index: Tensor, reading: Any = None) -> dict[str, Any]:
        """Return the batch of these samples, with those of the groups as ``protected``."""
        batch = self.store.batch(index, reading)
        return batch | {"protected": tuple(self.drawn(rows) for rows in self.rows.values())}

    def drawn(self, rows: Tensor) -> dict[str, Any]:
        """Return samples of a group, drawn from those that are this process's."""
        count = -(-min(self.samples, len(rows)) // processes.count())
        if len(rows) >= processes.count():
            rows = rows[processes.rank() :: processes.count()]
        return self.store.batch(rows[torch.randperm(len(rows))[:count]])


def rows_of(
    groups: Sequence[str], labels: Sequence[str] | None, names: Sequence[str] | None
) -> dict[str, Tensor]:
    """Return the positions of the samples of each group.

    Args:
        groups: names of head, mid and tail, or of classes.
        labels: class of each training sample; None where there are none.
        names: head, mid or tail of each; None where there are no classes.

    Raises:
        ValueError: no classes, or a group that has fewer than two samples.
    """
    if labels is None or names is None:
        raise ValueError(
            f"protect.groups={', '.join(groups)} need classes: name their column as data.label, or "
            "set data.clusters"
        )
    rows = {}
    for group in groups:
        places = [i for i, both in enumerate(zip(names, labels, strict=True)) if group in both]
        if len(places) < _FEWEST:
            raise ValueError(
                f"protect.groups: {group!r} has {len(places)} training samples and needs "
                f"{_FEWEST}: there are {', '.join(sorted(set(names)))} and the classes "
                f"{some(sorted(set(labels)), 20)}"
            )
        rows[group] = torch.tensor(places)
    return rows
