"""Parameters of a loss over several processes, whether data parallelism knows of them or not.

Each process has a part of the gradient of a learned temperature, bias or network. Where a
parameter enters, the parts are averaged, so that all processes move it alike. The mean that data
parallelism takes of equal gradients changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from tauten.pairwise.exchange import several_processes
from tauten.pairwise.once import apply_once, first_only

if TYPE_CHECKING:
    from tauten.losses.base import ContrastiveLoss
    from tauten.losses.batch import Batch


def sides(loss_fn: ContrastiveLoss, batch: Batch) -> list[Tensor]:
    """Return ``loss_fn.sides(batch)``, with the same parameter gradients on all processes.

    Raises:
        ValueError: parameters that differ between processes at the first batch.
    """
    if not (torch.is_grad_enabled() and several_processes()):
        return loss_fn.sides(batch)
    learned = {n: p for n, p in loss_fn.named_parameters() if p.requires_grad}
    if not learned:
        return loss_fn.sides(batch)
    device = batch.x.device
    if not loss_fn.agreed:
        _check_equal(type(loss_fn).__name__, learned, device)
        loss_fn.agreed = True
    if batch.shard is not None:  # each has the gradient of all pairs
        return loss_fn.sides(batch)
    shared = apply_once(_Averaged, device, *learned.values())
    exchanged = {f"loss_fn.{name}": part for name, part in zip(learned, shared, strict=True)}
    losses: list[Tensor] = torch.func.functional_call(_Call(loss_fn), exchanged, (batch,))
    return losses


class _Call(nn.Module):
    """The losses of a batch as a module's call, in which parameters can be exchanged."""

    def __init__(self, loss_fn: ContrastiveLoss) -> None:
        super().__init__()
        self.loss_fn = loss_fn

    def forward(self, batch: Batch) -> list[Tensor]:
        return self.loss_fn.sides(batch)


class _Averaged(torch.autograd.Function):
    """The parameters as they are; backward the mean of their gradients over processes."""

    @staticmethod
    def forward(ctx: Any, device: torch.device, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.device = device
        ctx.set_materialize_grads(False)
        ctx.sizes = [parameter.numel() for parameter in parameters]
        return tuple(parameter.view_as(parameter) for parameter in parameters)

    @staticmethod
    @first_only
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        given = [part for part in cotangents if part is not None]
        dtype = torch.float64 if any(g.dtype == torch.float64 for g in given) else torch.float32
        flat = torch.cat(
            [
                torch.zeros(size, dtype=dtype, device=ctx.device)
                if part is None
                else part.reshape(-1).to(ctx.device, dtype)
                for part, size in zip(cotangents, ctx.sizes, strict=True)
            ]
        )
        distributed.all_reduce(flat)
        means = (flat / distributed.get_world_size()).split(ctx.sizes)
        return None, *(
            None if part is None else mean.view_as(part).to(part)
            for mean, part in zip(means, cotangents, strict=True)
        )


def _check_equal(owner: str, learned: Mapping[str, Tensor], device: torch.device) -> None:
    if any(hasattr(parameter, "full_tensor") for parameter in learned.values()):
        return
    sums = torch.stack(
        [
            torch.stack([p.detach().double().sum(), p.detach().double().abs().sum()]).to(device)
            for p in learned.values()
        ]
    )
    least, most = sums.clone(), sums.clone()
    distributed.all_reduce(least, distributed.ReduceOp.MIN)
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    for name, low, high in zip(learned, least, most, strict=True):
        if not torch.allclose(low, high, rtol=1e-6, atol=1e-9):
            raise ValueError(
                f"{owner}'s parameter {name} differs between processes: sums of "
                f"{float(low[0]):g} to {float(high[0]):g}; build the loss with the same seed on "
                "all of them, or wrap it in DistributedDataParallel, which sends out the first's"
            )
