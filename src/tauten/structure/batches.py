"""Batches whose samples are all of one cluster (MCL)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tauten.checks import MOST, whole
from tauten.ids import check_index


def refined(labels: Tensor, clusters: Tensor, count: int) -> Tensor:
    """Return count·labels + clusters: the clusters of a further stage within those of the last.

    Args:
        labels: (N,) long, of the stages before; zeros before the first.
        clusters: (N,) long, in 0 .. count − 1, such as those of ``kmeans`` on this stage's
            embeddings.
        count: clusters of a stage.

    Raises:
        ValueError: lengths that differ, clusters out of range, or labels below 0, or so large
            that new ones do not fit 63 bits.
    """
    y, c = check_index(labels).long(), check_index(clusters).long()
    whole("count", count, 1)
    if len(y) != len(c) or (len(c) and not 0 <= int(c.min()) <= int(c.max()) < count):
        seen = f" in {int(c.min())} .. {int(c.max())}" if len(c) else ""
        raise ValueError(
            f"clusters must name each of {len(y)} samples, in 0 .. {count - 1}, got {len(c)}{seen}"
        )
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < MOST // count:
        raise ValueError(
            f"labels must be in 0 .. {MOST // count - 1}, got {int(y.min())} .. {int(y.max())}: "
            "number them anew with unique(return_inverse=True)"
        )
    return count * y + c


class ClusterBatches:
    """A batch sampler in which all samples of a batch share a label.

    So what told clusters apart in earlier stages tells no negatives apart any more, and a new stage
    must learn something else. MCL (Zhang et al., ECCV 2024) concatenates the stages' embeddings.
    Every process draws the same batches and takes its part of each; ``DataLoader(batch_sampler=)``
    takes it. A last part of a cluster that fills no batch is left out, another one in each epoch;
    ``dropped`` counts what an epoch leaves out.

    MM-TS raises temperatures where clusters are large, which here are whole batches: use one of
    both.

    Args:
        labels: (N,) long, pseudo-labels.
        batch_size: samples of a batch over all processes.
        seed: seed of the order.
        rank: number of this process.
        world: number of processes, which divides the batch.

    Raises:
        ValueError: a batch that processes do not divide, or that no cluster fills.
    """

    def __init__(
        self, labels: Tensor, batch_size: int, *, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if whole("batch_size", batch_size, -MOST) < 2:
            raise ValueError(f"batch_size must be at least 2, got {batch_size}")
        if not 0 <= whole("rank", rank, 0) < whole("world", world, 1) or batch_size % world:
            raise ValueError(
                f"world={world} must divide batch_size={batch_size}, and rank={rank} be below it"
            )
        self.labels, self.batch_size = check_index(labels).long().cpu(), batch_size
        self.seed, self.rank, self.world, self.epoch = seed, rank, world, 0
        counts = self.labels.unique(return_counts=True)[1]
        self._batches = int((counts // batch_size).sum())
        if not self._batches:
            raise ValueError(
                f"no cluster has the {batch_size} samples of a batch, the largest has "
                f"{int(counts.max()) if len(counts) else 0}: take smaller batches or fewer clusters"
            )
        self.dropped = len(self.labels) - self._batches * batch_size

    def __len__(self) -> int:
        return self._batches

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch from now on."""
        self.epoch = whole("epoch", epoch, 0)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        batches = []
        for label in self.labels.unique():
            members = (self.labels == label).nonzero().squeeze(1)
            members = members[torch.randperm(len(members), generator=generator)]
            full = len(members) // self.batch_size * self.batch_size
            batches += list(members[:full].view(-1, self.batch_size))
        each = self.batch_size // self.world
        share = slice(self.rank * each, (self.rank + 1) * each)
        for place in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[place][share].tolist()
