"""The τ of each sample in iSogCLR and FastCLIP-v2, and its update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from tauten.checks import two
from tauten.controls.anchors import Anchors, Direction
from tauten.controls.base import Control, Range, finite
from tauten.controls.tables import SideTables, Sizes
from tauten.ids import check_index
from tauten.observations import Pending, Samples, mean_by_sample
from tauten.pairwise.numbers import Number
from tauten.spec import Context, ControlSpec, Level, NewestWeight, Rate
from tauten.spec import Range as Interval
from tauten.state import SampleTable

_EPSILON = 1e-8


class Individual(Control):
    """A temperature for each sample and side, learned from the gradient that the loss reports.

    G_i is the derivative of τ_i·log E_j exp(h_ij/τ_i) + ρ·τ_i. By momentum (iSogCLR):

    v_i ← (1−β)·v_i + β·G_i,   τ_i ← clip(τ_i − η·v_i, τ_min, τ_max)

    or by Adam (FastCLIP-v2), its moments kept for each sample and corrected by the sample's own
    number of visits. τ_i rises until the anchor's negatives are weighted no more unevenly than ρ
    allows: KL(softmax(h_i/τ_i) ‖ uniform) = ρ.

    :meth:`step` writes the tables, the same on every process, with the mean of G over the visits of
    a sample in that step.

    Args:
        num_samples: size of the data set, or (size for x, size for y) when the sides have ids of
            their own; None for tables that grow.
        rho: ρ, > 0; published: 6 to 8 (bimodal), 0.3 to 0.4 (unimodal).
        tau_init: temperature of a sample that was never seen.
        tau_range: (τ_min, τ_max).
        lr: η, > 0.
        beta: weight of the NEW gradient in its average, in (0, 1].
        adam: Adam's (β₁, β₂) instead of momentum; published: (0.9, 0.999), or (0.9, 0.98) for ViT.
        max_gradient: G is clipped to ± this; None for never.
        table_device: ``"cpu"`` keeps the tables in main memory when the control is moved.

    Raises:
        ValueError: a value outside its range.
    """

    granularity = "anchor"
    needs_index = True
    two_sided = True
    learns = "dual"
    composable = False

    def __init__(
        self,
        num_samples: Sizes,
        rho: float = 6.0,
        tau_init: float = 0.01,
        tau_range: tuple[float, float] = (0.005, 1.0),
        lr: float = 0.03,
        beta: float = 0.9,
        *,
        adam: tuple[float, float] | None = None,
        max_gradient: float | None = 5.0,
        table_device: Literal["cpu"] | None = None,
    ) -> None:
        super().__init__()
        low, high = (finite("tau_range", end) for end in two("tau_range", tau_range))
        if not 0 < low <= finite("tau_init", tau_init) <= high:
            raise ValueError(
                f"need 0 < tau_min <= tau_init <= tau_max, got {low}, {tau_init}, {high}"
            )
        for name, value, top in (("rho", rho, math.inf), ("lr", lr, math.inf), ("beta", beta, 1.0)):
            if not 0 < finite(name, value) <= top:
                raise ValueError(f"{name} must be in (0, {top:g}], got {value}")
        bounded = max_gradient is not None and max_gradient is not math.inf
        if bounded and finite("max_gradient", max_gradient) <= 0:
            raise ValueError(f"max_gradient must be > 0 or None, got {max_gradient}")
        if adam is not None and not all(0 <= finite("adam", d) < 1 for d in two("adam", adam)):
            raise ValueError(f"adam must be two decays in [0, 1), got {adam}")
        self.rho, self.lr, self.beta, self.adam = rho, lr, beta, adam
        self.max_gradient = max_gradient
        self.low, self.high = low, high
        columns = {"tau": tau_init, "momentum": 0.0}
        if adam is not None:
            columns |= {"square": 0.0, "updates": 0.0}
        self.tables = SideTables(num_samples, columns, table_device)
        self._pending: dict[Direction, Pending] = {"x2y": Pending(), "y2x": Pending()}

    @property
    def of_ids(self) -> bool:
        return True

    def values(self, index: Tensor, step: int) -> Tensor:
        return self.side(index, "x2y")

    def side(self, index: Tensor, direction: Direction) -> Tensor:
        return self.tables.of(direction).read(check_index(index))["tau"]

    def on(self, anchors: Anchors) -> Number:
        return self.side(anchors.index, anchors.direction)

    def range(self) -> Range:
        return self.low, self.high

    def observe(self, direction: Direction, samples: Samples, gradient: Tensor) -> None:
        """Note the gradient G (n,) of these samples' temperatures for the next step."""
        self._pending[direction].add(samples, gradient.double())

    @torch.no_grad()
    def _advance(self) -> None:
        super()._advance()
        for direction, pending in self._pending.items():
            seen = pending.take()
            if seen is not None:
                ids, means = mean_by_sample(*seen)
                self._update(self.tables.of(direction), ids, means[:, 0])

    def _update(self, table: SampleTable, ids: Tensor, gradient: Tensor) -> None:
        if self.max_gradient is not None:
            gradient = gradient.clamp(-self.max_gradient, self.max_gradient)
        read = table.read(ids, known=True)
        rows = {name: column.double() for name, column in read.items()}
        if self.adam is None:
            direction = (1 - self.beta) * rows["momentum"] + self.beta * gradient
            rows["momentum"] = direction
        else:
            direction = self._adam(rows, gradient, *self.adam)
        rows["tau"] = (rows["tau"] - self.lr * direction).clamp(self.low, self.high)
        table.write(ids, rows, known=True)

    def _adam(
        self, rows: dict[str, Tensor], gradient: Tensor, first: float, second: float
    ) -> Tensor:
        updates = rows["updates"] + 1
        momentum = first * rows["momentum"] + (1 - first) * gradient
        square = second * rows["square"] + (1 - second) * gradient.square()
        rows.update(momentum=momentum, square=square, updates=updates)
        scale = (square / (1 - second**updates)).sqrt() + _EPSILON
        return momentum / (1 - first**updates) / scale

    def __repr__(self) -> str:
        return f"Individual(low={self.low:g}, high={self.high:g}, rho={self.rho:g})"


@dataclass
class IndividualSpec(ControlSpec):
    """A temperature for each sample, learned by the robust objective (iSogCLR)."""

    kind: ClassVar[str] = "individual"
    title: ClassVar[str] = "individual τ"

    value: Level = 0.07
    """of a sample that was never seen"""
    low: Level = 0.01
    """lower bound"""
    high: Level = 1.0
    """upper bound"""
    rho: Annotated[float, Interval(0.0, 1e6, above=True)] = 6.0
    """radius of the uncertainty set; larger values give lower temperatures"""
    lr: Rate = 0.03
    """learning rate of the temperatures"""
    beta: NewestWeight = 0.5
    """weight of the newest gradient in its average"""
    max_gradient: Rate = 5.0
    """bound of a temperature's gradient; published for two views: 3"""

    def build(self, context: Context) -> Control:
        return Individual(
            context.sizes,
            rho=self.rho,
            tau_init=self.value,
            tau_range=(self.low, self.high),
            lr=self.lr,
            beta=self.beta,
            max_gradient=self.max_gradient,
        )
