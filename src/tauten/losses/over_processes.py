"""Reduction of a loss over processes: the value of the whole batch, the gradient of each part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.losses.dro import DRO
from tauten.losses.finite import finite_embeddings, refuse_losses
from tauten.losses.sums import sum_and_count
from tauten.pairwise.exchange import Ranks
from tauten.reads import ask

if TYPE_CHECKING:
    from tauten.losses.base import ContrastiveLoss
    from tauten.losses.batch import Batch


def reduced(
    loss_fn: ContrastiveLoss, losses: Sequence[Tensor], batch: Batch, ranks: Ranks
) -> Tensor:
    """Return the loss of the batch of all processes, or with "none" this one's anchors.

    Args:
        loss_fn: the loss that gave them.
        losses: losses of :meth:`ContrastiveLoss.sides`, of this process's anchors.
        batch: the batch that they belong to.
        ranks: the processes that share it.

    Raises:
        NonFiniteLossError: an embedding or a loss is NaN or infinite, here or elsewhere.
    """
    failed = torch.stack([_failed(part) for part in losses])
    broken = (~finite_embeddings(batch)).to(failed).expand_as(failed)
    facts = torch.cat([sum_and_count(losses), torch.stack([failed, broken])])
    sums, anchors, failures, givers = _summed(facts, batch, ranks)

    def then(failed: bool) -> None:
        if failed:
            refuse_losses(loss_fn, losses, batch, bool(givers.any()))

    ask(failures.any(), then)
    if loss_fn.reduction == "none":
        return losses[0]
    price = None
    if isinstance(loss_fn.reduction, DRO):
        price = loss_fn.reduction.price(losses, batch)
        losses = loss_fn.reduction.weighted(losses, batch)
        sums = ranks.sum_(torch.stack([part.detach().sum() for part in losses]))
    of_batch, of_shard = list(sums), [part.sum() for part in losses]
    if loss_fn.reduction != "sum":
        of_batch = [part / count for part, count in zip(of_batch, anchors, strict=True)]
        of_shard = [part / count for part, count in zip(of_shard, anchors, strict=True)]
    value, part = (
        side[0] if len(side) == 1 else side[0] + side[1] for side in (of_batch, of_shard)
    )
    part = part * ranks.size
    loss: Tensor = part - part.detach() + value
    return loss if price is None else loss + price


def _summed(facts: Tensor, batch: Batch, ranks: Ranks) -> Tensor:
    """Return facts summed over processes, in one message with all that waits for one."""
    waiting = [one for part in batch.parts for one in part.sums]
    parts = [facts.view(-1), *(numbers.to(facts) for numbers, _ in waiting)]
    whole: list[Tensor] = list(ranks.sum_(torch.cat(parts)).split([len(part) for part in parts]))
    for sums, (_, then) in zip(whole[1:], waiting, strict=True):
        then(sums)
    return whole[0].view_as(facts)


def _failed(part: Tensor) -> Tensor:
    """Return () the number of values that are NaN or infinite."""
    return (~torch.isfinite(part.detach())).sum().to(part)
