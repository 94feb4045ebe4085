"""Refusal of losses and embeddings that are NaN or infinite, with the rows that are so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.checks import few
from tauten.losses.batch import Batch, of_pairs

if TYPE_CHECKING:
    from tauten.losses.base import ContrastiveLoss


class NonFiniteLossError(FloatingPointError, ValueError):
    """The loss, or an embedding that it was given, is NaN or infinite."""


def check_list(name: str, parts: object) -> None:
    """Check that these are tensors in a list, or one tensor of them."""
    if isinstance(parts, Tensor) and parts.dim():
        return
    if not isinstance(parts, (list, tuple)):
        got = f"a tensor {tuple(parts.shape)}" if isinstance(parts, Tensor) else repr(parts)
        raise ValueError(f"{name} must be a list of tensors (N, d), got {got:.60}")
    for at, part in enumerate(parts):
        if not isinstance(part, Tensor):
            raise ValueError(
                f"{name} must be a list of tensors (N, d), got {part!r:.60} at place {at}"
            )


def check_rows(name: str, side: Tensor, ids: Tensor | None = None) -> None:
    """Check that all rows (N, d) are finite, and name those that are not."""
    if bool(torch.isfinite(side.detach()).all()):
        return
    rows = (~torch.isfinite(side.detach())).any(1).nonzero().squeeze(1)
    known = "" if ids is None else f"; data set ids {few(ids.to(rows.device)[rows].tolist())}"
    raise NonFiniteLossError(
        f"{name} has NaN or infinite embeddings in {len(rows)} of {len(side)} rows: "
        f"{few(rows.tolist())}{known}"
    )


def check_losses(loss_fn: ContrastiveLoss, losses: Sequence[Tensor], batch: Batch) -> None:
    """Check that all losses of a batch are finite, and name the rows that are not.

    Args:
        loss_fn: the loss that gave them.
        losses: losses of :meth:`ContrastiveLoss.sides`.
        batch: the batch that they belong to.

    Raises:
        NonFiniteLossError: an embedding, or the loss of an anchor, is NaN or infinite.
    """
    losses = of_pairs(losses)
    if batch.shard is not None:
        elsewhere = not bool(finite_embeddings(batch))
        refuse_losses(loss_fn, [part[batch.shard] for part in losses], batch, elsewhere)
    elif not all(bool(torch.isfinite(part.detach()).all()) for part in losses):
        check_embeddings(batch)
        _check_anchors(loss_fn, losses, batch)


def refuse_losses(
    loss_fn: ContrastiveLoss, losses: Sequence[Tensor], batch: Batch, elsewhere: bool
) -> None:
    """Refuse a loss of all processes, and say what of it lies with this one.

    Args:
        loss_fn: the loss.
        losses: losses of this process's anchors.
        batch: the batch that they belong to.
        elsewhere: whether some process was given an embedding that is NaN or infinite.

    Raises:
        NonFiniteLossError: always.
    """
    batch = batch.of_process()
    check_embeddings(batch)
    if elsewhere:
        raise NonFiniteLossError(
            "another process was given NaN or infinite embeddings, which its own message names; "
            "those of this one are finite"
        )
    _check_anchors(loss_fn, of_pairs(losses), batch)
    raise NonFiniteLossError("the loss of another process is NaN or infinite")


def check_embeddings(batch: Batch) -> None:
    """Check that the embeddings of a batch are finite, and name the rows that are not."""
    for name, side, ids in _named_sides(batch):
        check_rows(name, side, ids if batch.named else None)


def finite_embeddings(batch: Batch) -> Tensor:
    """Return () bool, whether all embeddings of a batch are finite."""
    filled = [side.detach() for _, side, _ in _named_sides(batch) if side.numel()]
    ends = [end for side in filled for end in side.aminmax()]  # a NaN is both; one pass
    return torch.isfinite(torch.stack(ends or [batch.x.new_zeros(())])).all()


def _check_anchors(loss_fn: ContrastiveLoss, losses: Sequence[Tensor], batch: Batch) -> None:
    """Name the anchors of a batch, of finite embeddings, whose loss is not finite."""
    if all(bool(torch.isfinite(part.detach()).all()) for part in losses):
        return
    bad, ids = ~torch.isfinite(losses[0].detach()), batch.ids["x2y"]
    if batch.relation.labels is not None and loss_fn.directions == "y2x":
        ids = batch.ids["y2x"]
    elif not bool(bad.any()):
        bad, ids = ~torch.isfinite(losses[1].detach()), batch.anchored(batch.ids["y2x"], "y2x")
    rows = bad.nonzero().squeeze(1)
    known = f", data set ids {few(ids[rows].tolist())}" if batch.named else ""
    assert loss_fn.last_tau is not None
    tau = loss_fn.last_tau[1]
    raise NonFiniteLossError(
        f"the loss of {len(rows)} of {len(bad)} anchors is NaN or infinite: rows "
        f"{few(rows.tolist())}{known}, {loss_fn.strength_name} "
        f"in [{float(tau.min()):g}, {float(tau.max()):g}]"
    )


def _named_sides(batch: Batch) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the name, the embeddings and the ids of each side of a batch."""
    for part in batch.parts:
        names = ("x", "y") if part.side is None else ("x", "keys.y")
        if part.side == "y2x":
            names = ("y", "keys.x")
        yield names[0], part.x, part.ids["x2y"]
        yield names[1], part.y, part.ids["y2x"]
        for d, hard in part.hard.items():
            name = "y" if d == "y2x" else names[0]
            yield f"negatives= of {name}", hard.vectors.flatten(1), part.ids[d]
