"""Global contrastive losses: moving averages of each anchor's partition instead of a large batch.

Shapes: n anchors of one direction, with negatives j ≠ i that are neither positive nor ignored.
h_ij = s_ij − s_ii;  g_i = mean_j exp(h_ij/τ_i);  u_i the moving average of g_i over visits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tauten.controls import Control, as_control
from tauten.losses.base import ContrastiveLoss, SharedOptions, check_range
from tauten.losses.batch import Batch, Direction
from tauten.losses.dcl import need_negatives
from tauten.losses.infonce import logits_lse
from tauten.relations import Ids
from tauten.state import Pending, SampleTable, mean_by_sample

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: data set sizes: one number for both sides, or (x, y) with ids of their own; None grows
Sizes = int | None | tuple[int | None, int | None]


@dataclass(frozen=True)
class Partition:
    """What one direction of a batch says of its anchors' partitions.

    Attributes:
        log_g: (n,) log of the batch's estimate, differentiable in the embeddings.
        log_u: (n,) log of the moving average with this batch in it, detached.
        alone: (n,) bool, anchors without a negative; they contribute nothing.
        tau: (n,) detached.
        positives: (n,) detached.
        log_negatives: (n,) or (1,) log of the number of negatives.
    """

    log_g: Tensor
    log_u: Tensor
    alone: Tensor
    tau: Tensor
    positives: Tensor
    log_negatives: Tensor


class SogCLR(ContrastiveLoss):
    """Global contrastive loss (Yuan et al., ICML 2022): exact for small batches in the limit.

    F = mean_i τ_i · log E_{j over all negatives} exp(h_ij/τ_i), both ways.

    Each visit sets u_i ← (1−γ)u_i + γ·g_i, and u_i ← g_i on the sample's first; the gradient is
    that of τ_i·g_i/sg(u_i), so that a small batch's estimate is divided by the average of many.
    u is kept as its logarithm, which neither over- nor underflows when τ or the embeddings change.
    The positive is not counted among the negatives. The value is τ_i·log u_i.

    The forward pass is pure; :meth:`step` writes the tables, the same on every process, with the
    mean over the visits of a sample in that step.

    Args:
        num_samples: size of the data set, or (size for x, size for y) when the sides have ids of
            their own; None for tables that grow.
        temperature: a control or a number; must stay > 0.
        gamma: weight of the newest estimate, in (0, 1]: a control over steps or a number.
        weight: a control or a number >= 0 that multiplies each anchor's loss.
        directions: ``"both"``, or only ``"x2y"`` or ``"y2x"``.
        normalize: whether rows are scaled to length 1 first.
        tile: ``"auto"``, ``"dense"``, or the size of the engine's tiles.
        reduction: ``"mean"`` or ``"sum"`` over anchors, or ``"none"``.

    Raises:
        ValueError: a temperature or gamma outside its range, or an unknown option.
    """

    def __init__(
        self,
        num_samples: Sizes,
        temperature: Control | float = 0.1,
        gamma: Control | float = 0.9,
        **options: Unpack[SharedOptions],
    ) -> None:
        if "force" in options:
            raise ValueError(
                f"{type(self).__name__} has no force= option: its force does not grow with 1/τ"
            )
        super().__init__(temperature, **options)
        self.gamma = as_control(gamma)
        check_range("gamma", self.gamma, 0.0, strict=True)
        if self.gamma.range()[1] > 1 or self.gamma.needs_index:
            raise ValueError(f"gamma must be in (0, 1] and the same for all, got {self.gamma!r}")
        sides = num_samples if isinstance(num_samples, tuple) else (num_samples, num_samples)
        self.tables = nn.ModuleDict(
            {
                direction: SampleTable(size, self._columns())
                for direction, size in zip(("x2y", "y2x"), sides, strict=True)
            }
        )
        self._pending: dict[Direction, Pending] = {"x2y": Pending(), "y2x": Pending()}

    def two_views(self, a: Tensor, b: Tensor, index: Tensor) -> Tensor:
        """The loss of two views of the same images, one modality.

        Each of the 2B views is an anchor, the other view its positive and the 2B−2 views of other
        images its negatives. Both views of an image share one row of the table.

        Args:
            a: (B, d) first views.
            b: (B, d) second views.
            index: (B,) long, data set positions.
        """
        if a.shape != b.shape or len(index) != len(a):
            raise ValueError(
                f"two views need equal shapes and an id for each image, got {tuple(a.shape)}, "
                f"{tuple(b.shape)} and {len(index)} ids"
            )
        if self.directions != "x2y":
            raise ValueError("two views of one modality need directions='x2y'")
        z, ids = torch.cat([a, b]), torch.cat([index, index])
        other = torch.arange(2 * len(a), device=z.device).roll(len(a))
        loss: Tensor = self(z, z, ids, positives=other, same=ids)
        return loss

    def step(self) -> None:
        """Advance by one optimiser step and write what was seen to the tables."""
        for direction, pending in self._pending.items():
            seen = pending.take()
            if seen is not None:
                self._commit(self._table(direction), *mean_by_sample(*seen))
        super().step()

    def _columns(self) -> dict[str, float]:
        return {"log_u": -math.inf}

    def _table(self, direction: Direction) -> SampleTable:
        table = self.tables[direction]
        assert isinstance(table, SampleTable)
        return table

    def _commit(self, table: SampleTable, ids: Tensor, means: Tensor) -> None:
        table.write(ids, {"log_u": means[:, 0].log()})

    def _observe(self, batch: Batch, parts: Mapping[Direction, Partition]) -> None:
        for d, part in parts.items():
            keep = ~part.alone
            self._pending[d].add(batch.ids[d][keep], part.log_u[keep].double().exp())

    def _tau(self, batch: Batch, direction: Direction) -> Tensor:
        return batch.values(self.strength, direction)

    def _values(self, part: Partition) -> Tensor:
        return part.tau * part.log_u

    def _batch(self, x: Tensor, y: Tensor, index: Ids | None, *rest: object) -> Batch:
        if index is None:
            raise ValueError(
                f"{type(self).__name__} keeps a moving average for each sample: pass index=, the "
                "data set positions of this batch's pairs"
            )
        return super()._batch(x, y, index, *rest)  # type: ignore[arg-type]

    def _anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        need_negatives(self, batch, directions)
        taus = [self._tau(batch, d).detach() for d in directions]
        lse = batch.reduce(*logits_lse(batch, [1 / t for t in taus], directions), own=True)
        parts = {
            d: self._partition(batch, d, partition, tau)
            for partition, tau, d in zip(lse, taus, directions, strict=True)
        }
        if self.training and torch.is_grad_enabled():
            self._observe(batch, parts)
        losses = []
        for part in parts.values():
            surrogate = part.tau * torch.exp(part.log_g - part.log_u)
            loss = surrogate + (self._values(part) - surrogate).detach()
            losses.append(loss.masked_fill(part.alone, 0.0))
        return losses

    def _partition(self, batch: Batch, direction: Direction, lse: Tensor, tau: Tensor) -> Partition:
        alone = torch.isneginf(lse.detach())
        log_negatives = batch.negatives(direction).clamp(min=1).log()
        positives = batch.positives(direction)
        log_g = lse.masked_fill(alone, 0.0) - positives / tau - log_negatives
        return Partition(
            log_g=log_g,
            log_u=self._moving_average(batch.ids[direction], direction, log_g.detach()),
            alone=alone,
            tau=tau.expand_as(log_g),
            positives=positives.detach(),
            log_negatives=log_negatives,
        )

    def _moving_average(self, ids: Tensor, direction: Direction, log_g: Tensor) -> Tensor:
        table = self._table(direction)
        old, seen = table.read(ids)["log_u"].to(log_g), table.seen(ids)
        gamma = float(self.gamma.values(ids[:1], self.gamma.steps))
        if gamma == 1.0:
            return log_g
        mixed = torch.logaddexp(math.log1p(-gamma) + old, math.log(gamma) + log_g)
        return torch.where(seen, mixed, log_g)
