"""An offset for each candidate, so that popular ones repel less."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from tauten.checks import whole
from tauten.controls import Control, Direction
from tauten.controls.base import finite
from tauten.controls.tables import SideTables
from tauten.losses.batch import Batch, along
from tauten.losses.composition import Composition, Refused
from tauten.losses.options import RelationOptions
from tauten.losses.partition import Partition, filled, note_anchors
from tauten.losses.sogclr import SogCLR, TableOptions
from tauten.observations import Pending, mean_by_sample
from tauten.pairwise import Offset, Reduction, Weight
from tauten.relations import Ids
from tauten.spec import Context, ControlSpec, LossSpec, NewestWeight, Rate

if TYPE_CHECKING:
    from typing_extensions import Unpack

_OTHER: dict[Direction, Direction] = {"x2y": "y2x", "y2x": "x2y"}
_NO_DUAL = Refused("its offsets are learned from the same partition, and its objective has no ρ")
_NO_RHO = Refused("the loss falls with τ without bound, and its objective has no ρ·τ to hold it")


class NUCLR(SogCLR):
    """Discriminative probabilistic modelling with learned offsets (Wang et al., 2024).

    F = mean_i τ·log[ε' + Σ_{j≠i} exp((h_ij − ζ_j)/τ)] + mean_j ζ_j, over all negatives, both ways.
    The value leaves out what has no gradient for the encoders, mean_j ζ_j and τ·log(N−1).

    The sum over all negatives is (N−1)·u_i, u_i the moving average of the batch's mean, and
    ε' = exp(−ξ/τ) with ξ = max_j ζ_j, so that weights do not explode while u is young. Each step
    moves the offsets of the candidates that it saw, ζ_j ← ζ_j − η·(1 − Σ_i w_ij), where w_ij is
    candidate j's share of anchor i's partition, the anchor's own positive in it, and the sum over
    all anchors is estimated from the batch. A candidate whose total weight exceeds 1 is pushed away
    less. Where the offsets settle, every candidate has the total weight 1.

    Args:
        num_samples: size of the data set, or (size for x, size for y).
        temperature: a control or a number that is not learned; must stay > 0.
        gamma: weight of the newest estimate, in (0, 1].
        lr: η, > 0.

    The other arguments are those of :class:`SogCLR`.

    Raises:
        ValueError: a value outside its range, or tables without a size, whose N is unknown.
    """

    largest: Tensor

    def __init__(
        self,
        num_samples: int | tuple[int, int],
        temperature: Control | float = 0.05,
        gamma: Control | float = 0.9,
        lr: float = 0.01,
        **options: Unpack[TableOptions],
    ) -> None:
        sides = num_samples if isinstance(num_samples, tuple) else (num_samples, num_samples)
        if any(size is None or whole("num_samples", size, 0) < 2 for size in sides):
            raise ValueError(f"NUCLR needs the size of the data set, at least 2, got {num_samples}")
        super().__init__(num_samples, temperature, gamma, **options)
        if finite("lr", lr) <= 0:
            raise ValueError(f"lr must be > 0, got {lr}")
        self.lr = lr
        self.offsets = SideTables(num_samples, {"zeta": 0.0}, options.get("table_device"))
        self.register_buffer("largest", torch.zeros(2))
        self._masses: dict[Direction, Pending] = {"x2y": Pending(), "y2x": Pending()}

    def prefetch(self, index: Ids, to: torch.device | str | None = None) -> None:
        super().prefetch(index, to)
        self.offsets.prefetch(index, to)

    def zeta(self, index: Tensor, side: Direction = "x2y") -> Tensor:
        """Return (n,) offsets of samples of x as candidates; ``side="y2x"`` for samples of y."""
        return self.offsets.of(side).read(index)["zeta"]

    @torch.no_grad()
    def step(self, *, controls: bool = True) -> None:
        """Advance by one optimiser step; write the averages and move the offsets."""
        self._exchange(controls=controls)
        for at, (side, pending) in enumerate(self._masses.items()):
            seen = pending.take()
            if seen is not None:
                ids, mass = mean_by_sample(*seen)
                table = self.offsets.of(side)
                zeta = table.read(ids, known=True)["zeta"].double() - self.lr * (1 - mass[:, 0])
                table.write(ids, {"zeta": zeta}, known=True)
                self.largest[at] = table.values.max()
        super().step(controls=controls)

    def batch(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        **relation: Unpack[RelationOptions],
    ) -> Batch:
        if relation.get("labels") is not None:
            raise ValueError(
                "NUCLR's offsets weigh the candidates of one positive: pass labels as same=, which "
                "leaves the further positives out"
            )
        return super().batch(x, y, index, **relation)

    def _composition(self) -> Composition:
        return replace(
            super()._composition(), learned=_NO_RHO, learned_anchor=_NO_RHO, dual=_NO_DUAL
        )

    def _offsets(self, batch: Batch, direction: Direction) -> Tensor:
        """Return ζ of the candidates of that direction's anchors."""
        side = _OTHER[direction]
        return self.zeta(batch.ids[side], side).to(batch.x.device, batch.dtype)

    def _partitions(
        self, batch: Batch, directions: Sequence[Direction]
    ) -> dict[Direction, Partition]:
        taus = [batch.values(self.strength, d) for d in directions]
        reductions = [
            Reduction.of(
                along(d),
                "logsumexp",
                Offset(),
                batch.number(1 / tau, d),
                batch.number(self._offsets(batch, d), _OTHER[d]),
            )
            for tau, d in zip(taus, directions, strict=True)
        ]
        parts = {}
        for lse, d in zip(batch.reduce(*reductions, own=True), directions, strict=True):
            alone = batch.empty(lse, d)
            parts[d] = self._partition(batch, d, filled(lse, alone), alone)
        return parts

    def _log_constant(self, direction: Direction, tau: Tensor) -> Tensor | None:
        side = _OTHER[direction]
        largest = self.largest[0 if side == "x2y" else 1].to(tau)
        return -largest / tau - math.log(len(self.tables.of(side)) - 1)

    def _observe(self, batch: Batch, parts: Mapping[Direction, Partition]) -> None:
        super()._observe(batch, parts)
        with torch.no_grad():
            for d, part in parts.items():
                self._weigh(batch, d, part)

    def _weigh(self, batch: Batch, d: Direction, part: Partition) -> None:
        """Note the total weight of each candidate, its own anchors' among them."""
        side = _OTHER[d]
        zeta = self._offsets(batch, d)
        column = batch.relation.positive
        own_zeta = zeta[column] if d == "x2y" else batch.of(zeta, d)
        log_own = -own_zeta / part.tau - math.log(len(self.tables.of(side)) - 1)
        log_whole = torch.logaddexp(part.log_average, log_own)
        offset = batch.positives(d).detach() / part.tau + log_whole
        numbers = ((1 / part.tau).expand_as(offset), zeta, filled(offset, part.alone, math.inf))
        weight = filled(torch.exp(log_own - log_whole), part.alone)
        weight = (
            weight.new_zeros(len(zeta)).index_add(0, column, weight)
            if d == "x2y"
            else weight[column]
        )
        # another process may have candidates of several anchors, or of none
        if batch.ranks is None and batch.relation.single and batch.relation.times is None:
            (mass,) = batch.reduce(self._weights(batch, d, *numbers), own=True)
            anchors, empty = batch.negatives(side), None  # each has some: the batch has negatives
        else:
            zero = torch.zeros_like(offset)
            one = (zero, zeta, filled(zero, part.alone, math.inf))
            mass, anchors = batch.reduce(
                self._weights(batch, d, *numbers), self._weights(batch, d, *one), own=True
            )
            empty = (anchors <= 0).expand_as(mass)
        total = mass / anchors.clamp(min=1) + weight
        note_anchors(batch, side, empty, total.double(), self._masses[side].add)

    def _weights(
        self, batch: Batch, d: Direction, scale: Tensor, zeta: Tensor, offset: Tensor
    ) -> Reduction:
        """Return for each candidate the sum of exp((s − ζ)·scale − offset) over the anchors."""
        side = _OTHER[d]
        numbers = (batch.number(scale, d), batch.number(zeta, side), batch.number(offset, d))
        return Reduction.of(along(side), "sum", Weight(), *numbers)


@dataclass
class NUCLRSpec(LossSpec):
    """SogCLR whose candidates have learned offsets (NUCLR)."""

    kind: ClassVar[str] = "nuclr"
    title: ClassVar[str] = "NUCLR"

    gamma: NewestWeight = 0.8
    """weight of the newest estimate of a sample's partition"""
    zeta_lr: Rate = 0.01
    """learning rate of the candidates' offsets"""

    def build(self, control: ControlSpec, context: Context) -> NUCLR:
        return NUCLR(
            context.sizes,
            control.build(context),
            self.gamma,
            self.zeta_lr,
            **self.directions(context),
        )
