"""An encoder of one modality and the loss between two random views of each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tauten.candidates import KeyQueue
from tauten.losses import ContrastiveLoss
from tauten.models import ViewEncoder
from tauten.training.tasks.followed import FollowedModule
from tauten.training.tasks.force import ANCHORS, force_by_group
from tauten.training.tasks.module import refusing


@dataclass(frozen=True)
class ViewBatch:
    """Arguments of the loss for one batch of views.

    Attributes:
        x: (n, d) the anchors.
        y: (m, d) the candidates.
        ids: (n,) and (m,) long, data set positions of both; equal ones are no negatives.
        positives: (n,) long, the row of y that is the other view of each row of x.
    """

    x: Tensor
    y: Tensor
    ids: tuple[Tensor, Tensor]
    positives: Tensor

    @classmethod
    def of_two(cls, a: Tensor, b: Tensor, index: Tensor) -> ViewBatch:
        """Build the batch of NT-Xent: both views of N images are anchors and candidates,
        2N of each.
        """
        z, ids = torch.cat([a, b]), index.repeat(2)
        return cls(z, z, (ids, ids), torch.arange(len(z), device=z.device).roll(len(a)))

    @classmethod
    def of_sides(cls, a: Tensor, b: Tensor, index: Tensor) -> ViewBatch:
        """Build the batch of a loss that compares samples across the views and within each."""
        return cls(a, b, (index, index), torch.arange(len(a), device=a.device))

    @classmethod
    def of_queue(cls, q: Tensor, k: Tensor, index: Tensor, queue: KeyQueue) -> ViewBatch:
        """Build the batch of MoCo: N queries, their keys, and the queued ones."""
        keys, ids = queue.candidates(k, index)
        return cls(q, keys, (index, ids), torch.arange(len(q), device=q.device))

    def first(self, count: int) -> ViewBatch:
        """Return the batch with the first anchors only, ``count`` at most."""
        if self.x is not self.y and len(self.x) == len(self.y):
            return ViewBatch(
                self.x[:count],
                self.y[:count],
                (self.ids[0][:count], self.ids[1][:count]),
                self.positives[:count],
            )
        ids = (self.ids[0][:count], self.ids[1])
        return ViewBatch(self.x[:count], self.y, ids, self.positives[:count])

    def detached(self) -> ViewBatch:
        """Return the batch without gradients."""
        return ViewBatch(self.x.detach(), self.y.detach(), self.ids, self.positives)

    def relation(self) -> dict[str, Any]:
        """Return the keywords of the loss."""
        return {"positives": self.positives, "same": [self.ids]}


class ViewModule(FollowedModule):
    """An encoder and the loss on two views of each image; ``last_batch`` is that of training.

    Args:
        encoder: views to projections.
        loss_fn: of ``directions="x2y"``, with its controls, counters and tables.
        queue: earlier keys that are further negatives (MoCo); 0 for the views of the batch alone.
        momentum: of the encoder that makes the keys of the queue.
    """

    def __init__(
        self,
        encoder: ViewEncoder,
        loss_fn: ContrastiveLoss,
        queue: int = 0,
        momentum: float = 0.999,
    ) -> None:
        keys_before = KeyQueue(queue, encoder.projector.dim, shared=True) if queue else None
        super().__init__(encoder, loss_fn, keys_before, momentum)
        self.last_batch: ViewBatch | None = None

    def forward(self, images: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Return the loss of a batch, as ``{"loss": scalar}``.

        Args:
            images: (N, 3, H, W) uint8, or float in [0, 1].
            index: (N,) long, data set positions.

        Raises:
            NonFiniteLossError: an embedding or the loss is NaN or infinite, on any process.
        """
        a, b = self.encoder.views(images)
        if self.queue is None or self.slow is None:
            z = self.encoder(torch.cat([a, b]))
            build = ViewBatch.of_sides if self.loss_fn.within_sides else ViewBatch.of_two
            batch = build(z[: len(index)], z[len(index) :], index)
            k = z
        else:
            k = self.slow(b)
            batch = ViewBatch.of_queue(self.encoder(a), k, index, self.queue)
        broken = torch.stack([~side.detach().isfinite().all() for side in (batch.x, k)])
        with refusing(broken.any().unsqueeze(0), ["the encoder"], together=self.training):
            loss: Tensor = self.loss_fn(batch.x, batch.y, batch.ids, **batch.relation())
        if self.training:
            self.last_batch = batch.detached()
            if self.queue is not None:
                self.queue.push(k, index)
        return {"loss": loss}

    def forces(self, groups: Sequence[str] | None) -> dict[str, float]:
        """Return them of the first 1,024 anchors of the last batch.

        Over several processes they are those of the first one's part of it.
        """
        assert self.last_batch is not None
        batch = self.last_batch.first(ANCHORS)
        keywords = batch.relation()
        return force_by_group(self.loss_fn, batch.x, batch.y, batch.ids, groups, **keywords)
