"""Measured forces: attraction and repulsion of each pair of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch
from tauten.losses.options import RelationOptions
from tauten.pairwise.sides import as_reduced
from tauten.relations import Ids

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Forces:
    """Forces of a loss on the similarities of a batch.

    Attributes:
        pairs: (N, M) ∂(Σ_i ℓ_i)/∂s_ij; negative where a pair attracts, positive where it repels.
            With ``keys=`` (N, 2K): of the anchors of x and the keys of y, then of the others. With
            ``negatives=`` the own negatives of x, and of y, follow in further columns.
        attraction: (N,) sum of the attraction of each row, >= 0.
        repulsion: (N,) sum of the repulsion of each row, >= 0.
        by_group: for each group its rows' summed (attraction, repulsion).
    """

    pairs: Tensor
    attraction: Tensor
    repulsion: Tensor
    by_group: dict[str, tuple[float, float]]


def forces(
    loss_fn: ContrastiveLoss,
    x: Tensor,
    y: Tensor | None = None,
    index: Ids | None = None,
    groups: Sequence[str] | None = None,
    **relation: Unpack[RelationOptions],
) -> Forces:
    """Return the force of a loss on each pair of a batch, with its present temperatures and tables.

    Over several processes it is that within this process's shard.

    The loss is evaluated in ``eval()`` mode and learns nothing; temperatures that follow the
    embeddings are those of x and y, and their own dependence on s is part of the force unless the
    control detaches it. The whole pair matrix is held: O(N·M) memory, for diagnosis.

    Args:
        loss_fn: any loss.
        x: (N, d).
        y: (M, d), or None for one set of embeddings.
        index: as the loss takes it.
        groups: N names, such as "head", "mid" and "tail" of the samples of x.
        relation: ``positives=``, ``labels=`` and the other keywords, as the loss takes them.

    Raises:
        ValueError: as the loss does; groups of another length; own negatives of y where there is no
            row of y for each of x.
    """
    if groups is not None and len(groups) != len(x):
        raise ValueError(f"groups must name each of the {len(x)} rows of x, got {len(groups)}")
    x, y = x.detach(), None if y is None else y.detach()
    modes = [(module, module.training) for module in loss_fn.modules()]
    last, ranks = loss_fn.last_tau, loss_fn.ranks
    loss_fn.eval()
    loss_fn.ranks = "local"
    try:
        batch = loss_fn.batch(x, y, index, **relation).each(Batch.scaled)
        sims: list[tuple[Tensor, Tensor]] = []
        of_pairs = batch.each(lambda part: _of_pairs(part, sims))
        with torch.enable_grad():
            whole = loss_fn.per_anchor(of_pairs).sum()
            slopes = torch.autograd.grad(whole, [sim for sim, _ in sims])
        pairs = torch.cat([f[rows] for f, (_, rows) in zip(slopes, sims, strict=True)], dim=1)
    finally:
        for module, training in modes:
            module.training = training
        loss_fn.last_tau, loss_fn.ranks = last, ranks
    attraction, repulsion = (-pairs).clamp(min=0).sum(1), pairs.clamp(min=0).sum(1)
    sums = {}
    for name in dict.fromkeys(groups or ()):
        rows = torch.tensor([group == name for group in groups or ()], device=pairs.device)
        sums[name] = (float(attraction[rows].sum()), float(repulsion[rows].sum()))
    return Forces(pairs, attraction, repulsion, sums)


def _of_pairs(batch: Batch, sims: list[tuple[Tensor, Tensor]]) -> Batch:
    """Return a batch whose similarities are leaves, added to the list with x's rows of them."""
    left, right = as_reduced(batch.x, batch.y, cosine=batch.cosine)
    sim = (left @ right.T).requires_grad_()
    rows = torch.arange(len(left), device=sim.device)
    sims.append((sim, rows))
    hard = {}
    for d, negatives in batch.hard.items():
        if d == "y2x" and batch.relation.labels is None:
            rows = batch.relation.positive
        elif len(negatives.vectors) != len(left):
            raise ValueError(
                f"forces on negatives= of y need a row of y for each of x, got {len(right)} and "
                f"{len(left)}"
            )
        leaf = negatives.similarity.detach().requires_grad_()
        sims.append((leaf, rows))
        hard[d] = replace(negatives, given=leaf)
    # sides whose product is sim: the smaller one is of unit vectors
    x, y = sim, torch.eye(len(right), dtype=sim.dtype, device=sim.device)
    if len(left) < len(right):
        x, y = torch.eye(len(left), dtype=sim.dtype, device=sim.device), sim.T
    return replace(batch, x=x, y=y, cosine=False, tile="dense", views=batch.sides, hard=hard)
