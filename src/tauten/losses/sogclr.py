"""Global contrastive loss: moving averages of partitions instead of a large batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from torch import Tensor

from tauten.checks import warn
from tauten.controls import Control, Direction, Individual, as_control
from tauten.controls.base import Scheduled
from tauten.controls.tables import SideTables, Sizes
from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch
from tauten.losses.composition import (
    NO_RADIUS,
    Composition,
    CompositionWarning,
    Refused,
    check_composition,
    check_range,
    radius,
)
from tauten.losses.options import RelationOptions, SharedOptions
from tauten.losses.partition import (
    Partition,
    filled,
    gaps_and_heights,
    need_negatives,
    negatives_lse,
    note_anchors,
    report,
    robust_gradients,
)
from tauten.losses.weighting import SizeWeighted
from tauten.observations import Pending, log_mean_by_sample
from tauten.pairwise.once import hold
from tauten.relations import Ids
from tauten.spec import Context, ControlSpec, NewestWeight, Range

if TYPE_CHECKING:
    from typing_extensions import Unpack

_FURTHER = (
    "rows of y are nobody's positive, such as queued keys or hard negatives, and {} takes them as "
    "further candidates: its moving averages already stand for the negatives of earlier batches, "
    "so queued keys count twice and hard ones shift the average; use one of the two, a queue with "
    "InfoNCE or DCL or the averages without further candidates"
)
_GAMMA = Composition(
    learned=Refused("γ is no parameter of the objective"),
    learned_anchor=Refused("γ is no parameter of the objective"),
    dual=Refused("γ is no temperature"),
    pair=Refused("γ is the same for all"),
)


class TableOptions(SharedOptions, total=False):
    """Keywords of losses that keep tables; :class:`SogCLR` says what they mean."""

    table_device: Literal["cpu"] | None


class SogCLR(ContrastiveLoss):
    """Global contrastive loss (Yuan et al., ICML 2022): exact for small batches in the limit.

    F = mean_i τ_i · log E_{j over all negatives} exp(h_ij/τ_i) + ρ·τ_i, both ways.

    Each visit sets u_i ← (1−γ)u_i + γ·g_i, and u_i ← g_i on the sample's first; the gradient is
    that of τ_i·g_i/sg(u_i), so that a small batch's estimate is divided by the average of many.
    u is kept as its logarithm, which neither over- nor underflows when τ or the embeddings change.
    The positive is not counted among the negatives. The value is τ_i·log u_i + ρ·τ_i.

    ρ = 0 is SogCLR. With ρ > 0 the temperature may be learned, by the gradient
    G_i = log u_i + ρ − mean_j w_ij·h_ij/τ_i of the same objective: one for all
    (:class:`tauten.Learnable`, FastCLIP-v3), one for each sample (:class:`tauten.Individual`,
    iSogCLR and FastCLIP-v2), or predicted (:class:`tauten.TempNet`).

    The forward pass is pure; :meth:`step` writes the tables, the same on every process, with the
    mean over the visits of a sample in that step.

    Args:
        num_samples: size of the data set, or (size for x, size for y) when the sides have ids of
            their own; None for tables that grow.
        temperature: a control or a number; must stay > 0.
        gamma: weight of the newest estimate, in (0, 1]: a control over steps or a number.
        rho: ρ, >= 0; a control that brings its own (Individual, TempNet) sets it.
        weight: a control or a number >= 0 that multiplies each anchor's loss.
        directions: ``"both"``, or only ``"x2y"`` or ``"y2x"``.
        normalize: whether rows are scaled to length 1 first.
        tile: ``"auto"``, ``"dense"``, ``"triton"``, or the size of the engine's tiles.
        reduction: ``"mean"`` or ``"sum"`` over anchors, ``"none"``, or ``DRO(...)``.
        ranks: see :class:`InfoNCE`.
        table_device: ``"cpu"`` keeps the tables in main memory when the loss is moved.

    Raises:
        ValueError: a value outside its range, an unknown option, a learned temperature without ρ.
    """

    #: whether τ multiplies the logarithm, as the objective says
    _leading_tau = True

    pools = True
    no_keys = "its averages already stand for the negatives of earlier batches"
    no_targets = "its objective compares negatives with one positive: use InfoNCE"
    no_repulsion = (
        "its averages are of plain partitions, and NUCLR's offsets are weights that it learns: use "
        "InfoNCE or DCL"
    )
    no_negatives = "hard negatives shift the average, which stands for all data: use InfoNCE or DCL"

    def __init__(
        self,
        num_samples: Sizes,
        temperature: Control | float = 0.1,
        gamma: Control | float = 0.9,
        rho: float = 0.0,
        *,
        table_device: Literal["cpu"] | None = None,
        **options: Unpack[SharedOptions],
    ) -> None:
        if "force" in options:
            raise ValueError(
                f"{type(self).__name__} has no force= option: its force does not grow with 1/τ"
            )
        control = as_control(temperature)
        self.rho = radius(control, rho)
        self.composition = self._composition()
        super().__init__(control, **options)
        self.gamma = as_control(gamma)
        name = type(self).__name__
        check_composition(name, "gamma", self.gamma, _GAMMA)
        check_range("gamma", self.gamma, 0.0, strict=True)
        varies = self.gamma.granularity != "global" or self.gamma.needs_batch
        if self.gamma.range()[1] > 1 or varies:
            raise ValueError(f"gamma must be in (0, 1] and the same for all, got {self.gamma!r}")
        self.tables = SideTables(num_samples, {"log_u": -math.inf}, table_device)
        self._pending: dict[Direction, Pending] = {"x2y": Pending(), "y2x": Pending()}
        self._warned_of_further = False

    def two_views(self, a: Tensor, b: Tensor, index: Tensor) -> Tensor:
        """Return the loss of two views of the same images, one modality.

        Each of the 2B views is an anchor, the other view its positive and the 2B−2 views of other
        images its negatives. Both views of an image share one row of the table.

        Args:
            a: (B, d) first views.
            b: (B, d) second views.
            index: (B,) long, data set positions.
        """
        for side in (a, b, index):
            if not isinstance(side, Tensor) or not side.dim():
                raise ValueError("two views are tensors (B, d), (B, d) and ids (B,)")
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

    def prefetch(self, index: Ids, to: torch.device | str | None = None) -> None:
        """Start to bring the tables' rows of the next batch; see :meth:`SampleTable.prefetch`.

        Args:
            index: (N,) long, or a pair of id vectors, best on the tables' device.
            to: device of the next batch.
        """
        self.tables.prefetch(index, to)
        if isinstance(self.strength, Individual):
            self.strength.tables.prefetch(index, to)

    def step(self, *, controls: bool = True) -> None:
        """Advance by one optimiser step and write what was seen to the tables."""
        self._exchange(controls=controls)
        for direction, pending in self._pending.items():
            seen = pending.take()
            if seen is not None:
                ids, log_u = log_mean_by_sample(*seen)
                self.tables.of(direction).write(ids, {"log_u": log_u}, known=True)
        super().step(controls=controls)

    def _composition(self) -> Composition:
        return Composition(
            learned=None if self.rho else NO_RADIUS,
            learned_anchor=None if self.rho else NO_RADIUS,
            pair=Refused("its partition averages (s_ij − s_ii)/τ_i, with one τ for each anchor"),
        )

    def batch(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        **relation: Unpack[RelationOptions],
    ) -> Batch:
        if index is None:
            raise ValueError(
                f"{type(self).__name__} keeps a moving average for each sample: pass index=, the "
                "data set positions of this batch's pairs"
            )
        batch = super().batch(x, y, index, **relation)
        if batch.relation.columns_paired is not None and not self._warned_of_further:
            self._warned_of_further = True
            warn(_FURTHER.format(type(self).__name__), CompositionWarning)
        return batch

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        need_negatives(self, batch, directions)
        parts = self._partitions(batch, directions)
        if self.training and torch.is_grad_enabled():
            self._observe(batch, parts)
        losses = [filled(self._loss(part), part.alone) for part in parts.values()]
        return hold(losses, type(self).__name__)

    def _loss(self, part: Partition) -> Tensor:
        """Return the value of the objective, with the gradient of its estimator."""
        ratio = torch.exp(part.log_g - part.log_u)
        if not self._leading_tau:
            return ratio + (part.log_u - ratio).detach()
        surrogate = part.tau.detach() * ratio
        return surrogate - surrogate.detach() + part.tau * (part.log_u + self.rho)

    def _partitions(
        self, batch: Batch, directions: Sequence[Direction]
    ) -> dict[Direction, Partition]:
        scales = batch.scales(self.strength, directions)
        both = gaps_and_heights(batch, scales, directions)
        if both is not None:
            return {
                d: self._averaged(batch, d, z - batch.log_negatives(d), None, heights)
                for d, z, heights in zip(directions, *both, strict=True)
            }
        return {
            d: self._partition(batch, d, lse, alone)
            for (lse, alone), d in zip(
                negatives_lse(batch, scales, directions), directions, strict=True
            )
        }

    def _partition(
        self, batch: Batch, direction: Direction, lse: Tensor, alone: Tensor | None
    ) -> Partition:
        tau, positives = batch.values(self.strength, direction), batch.positives(direction)
        log_g = lse - positives / tau - batch.log_negatives(direction)
        return self._averaged(batch, direction, log_g, alone, None)

    def _averaged(
        self,
        batch: Batch,
        direction: Direction,
        log_g: Tensor,
        alone: Tensor | None,
        heights: Tensor | None,
    ) -> Partition:
        """Return the partitions whose estimates in this batch are log_g, with their averages."""
        tau = batch.values(self.strength, direction)
        average = self._moving_average(batch, direction, log_g.detach())
        constant = self._log_constant(direction, tau.detach())
        log_u = average if constant is None else torch.logaddexp(average, constant.to(average))
        log_negatives = batch.log_negatives(direction)
        return Partition(log_g, log_u, average, alone, tau, log_negatives, heights)

    def _log_constant(self, direction: Direction, tau: Tensor) -> Tensor | None:
        """Log of what is added to u inside the logarithm, if anything is."""
        return None

    def _moving_average(self, batch: Batch, direction: Direction, log_g: Tensor) -> Tensor:
        if isinstance(self.gamma, Scheduled):
            gamma = self.gamma.rounded(batch.dtype)
        else:
            gamma = float(batch.values(self.gamma, direction))
        if gamma == 1.0:
            return log_g
        columns, seen = self.tables.of(direction).visit(batch.ids[direction])
        old = columns["log_u"].to(log_g)
        mixed = torch.logaddexp(math.log1p(-gamma) + old, math.log(gamma) + log_g)
        return torch.where(seen, mixed, log_g)

    def _observe(self, batch: Batch, parts: Mapping[Direction, Partition]) -> None:
        for d, part in parts.items():
            note_anchors(batch, d, part.alone, part.log_average.double(), self._pending[d].add)
        if isinstance(self.strength, Individual):
            report(self.strength, batch, parts, robust_gradients(batch, parts, self.rho))


@dataclass
class SogCLRSpec(SizeWeighted):
    """Global contrastive loss with a moving average of each sample's partition (SogCLR)."""

    kind: ClassVar[str] = "sogclr"
    title: ClassVar[str] = "SogCLR"
    views: ClassVar[bool] = True

    gamma: NewestWeight = 0.8
    """weight of the newest estimate of a sample's partition"""
    rho: Annotated[float, Range(0.0, 1e6)] = 0.0
    """radius of the uncertainty set, which a τ learned by gradient needs; 0 for none"""

    def build(self, control: ControlSpec, context: Context) -> SogCLR:
        return SogCLR(
            context.sizes,
            control.build(context),
            self.gamma,
            self.rho,
            **self.keywords(control, context),
        )
