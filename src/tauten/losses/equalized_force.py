"""The equalized force: each anchor's loss times its inverse size over the running mean of all.

The force of InfoNCE on an anchor has the size 1/τ_i, so its loss is multiplied by τ_i; that of
MaxMargin has the number n_i of active negatives, so its loss is multiplied by 1/n_i. Each loss says
so in its ``_inverse_size``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, distributed

from tauten.controls import Direction
from tauten.losses.sums import mean_of, sum_and_count
from tauten.messages import gather_equal, own_device
from tauten.modules import StateModule
from tauten.spec import Context, ControlSpec, LossSpec

if TYPE_CHECKING:
    from tauten.losses.base import ContrastiveLoss
    from tauten.losses.batch import Batch


@dataclass
class Forced(LossSpec):
    """A loss whose control may change the shape of the force and leave its size."""

    force: Literal["plain", "equalized"] = "plain"
    """plain: as published; equalized: the control changes the shape of the force, not its size"""

    def keywords(self, control: ControlSpec, context: Context) -> dict[str, Any]:
        return {**super().keywords(control, context), "force": self.force}


class RunningMean(StateModule):
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
        #: whether the mean is known to be that of a step
        self.started = False

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.started = False

    def forward(self, batch: Tensor) -> Tensor:
        """Return the running mean, or before the first step the batch's own, ()."""
        return torch.where(self.count > 0, self.mean.to(batch), batch)

    def see(self, batch: Tensor) -> None:
        """Note the mean of a training batch, (), for the next commit."""
        total, times = self._pending or (torch.zeros_like(batch), 0)
        self._pending = (total + batch, times + 1)

    def commit(self, *, merge: bool = False) -> None:
        """Add what was seen since the last commit as one step's value.

        Args:
            merge: whether the processes of a group saw batches of their own.
        """
        pending, self._pending = self._pending, None
        if merge and distributed.is_available() and distributed.is_initialized():
            pending = _merged(pending)
        if pending is not None:
            total, times = pending
            seen = (total / times).to(self.mean)
            self.count += 1
            self.started = True
            self.mean += (seen - self.mean) / self.count


def sized(
    loss_fn: ContrastiveLoss, batch: Batch, losses: list[Tensor], directions: Sequence[Direction]
) -> list[Tensor]:
    """Return the losses with the size of the force, and the weights, that were asked for."""
    anchors = [(part, d) for part in batch.parts for d in directions]
    if loss_fn.running is not None:
        sizes = [loss_fn._inverse_size(part, d).expand(len(part.ids[d])) for part, d in anchors]
        counted = [part.anchored(size, d) for size, (part, d) in zip(sizes, anchors, strict=True)]
        noted = loss_fn.training and torch.is_grad_enabled()
        mean = _mean_size(loss_fn.running, counted, batch, noted=noted).to(batch.dtype)
        losses = [loss * (size / mean) for loss, size in zip(losses, sizes, strict=True)]
    if loss_fn.weight is not None:
        losses = [
            loss * part.values(loss_fn.weight, d)
            for loss, (part, d) in zip(losses, anchors, strict=True)
        ]
    return losses


def _mean_size(running: RunningMean, sizes: list[Tensor], batch: Batch, *, noted: bool) -> Tensor:
    """Return () the running mean of what divides the size of the force out.

    Args:
        running: its mean.
        sizes: (n,) of the anchors of each direction.
        batch: of which they are.
        noted: whether they count for the next step.
    """
    if batch.ranks is None:
        seen = torch.stack([part.mean() for part in sizes]).mean()
    elif running.started:  # the batch's own mean is needed at the step alone
        if noted:
            sums = sum_and_count(sizes).view(-1)
            batch.sums.append((sums, partial(_see, running, batch)))
        return running.mean.to(sizes[0])
    else:
        seen = mean_of(batch.ranks.sum_(sum_and_count(sizes)))
    if noted:
        batch.notes.append(partial(running.see, seen))
    mean: Tensor = running(seen)
    return mean


def _see(running: RunningMean, batch: Batch, sums: Tensor) -> None:
    """Note the mean of sizes whose sums are those of all processes, (2·k,)."""
    batch.notes.append(partial(running.see, mean_of(sums.view(2, -1))))


def _merged(pending: tuple[Tensor, int] | None) -> tuple[Tensor, int] | None:
    """Return the sum and count over all processes."""
    total, times = (0.0, 0) if pending is None else (float(pending[0]), pending[1])
    sums = torch.tensor([total, float(times)], dtype=torch.float64, device=own_device())
    total, count = gather_equal(sums).sum(0).tolist()
    return (torch.tensor(total, dtype=torch.float64), int(count)) if count else None
