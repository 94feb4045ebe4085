"""Individual temperatures by distributionally robust optimisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.controls import Control
from tauten.controls.base import Range, finite
from tauten.losses.base import SharedOptions
from tauten.losses.batch import Batch, Direction, along
from tauten.losses.sogclr import Partition, Sizes, SogCLR
from tauten.pairwise import Reduction, Tilted
from tauten.relations import Ids
from tauten.state import SampleTable

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Individual(Control):
    """The temperature that iSogCLR has learned for each sample of one side."""

    needs_index = True

    def __init__(self, table: SampleTable, low: float, high: float) -> None:
        super().__init__()
        self._table = [table]
        self.low, self.high = low, high

    def values(self, index: Tensor, step: int) -> Tensor:
        return self._table[0].read(index)["tau"]

    def range(self) -> Range:
        return self.low, self.high

    def __repr__(self) -> str:
        return f"Individual(low={self.low:g}, high={self.high:g})"


class iSogCLR(SogCLR):  # noqa: N801 (the published name)
    """SogCLR with a temperature for each sample, learned by its own gradient (Qiu et al., 2023).

    F = mean_i τ_i · log E_j exp(h_ij/τ_i) + τ_i·ρ, both ways with temperatures of their own.

    G_i = ∂F_i/∂τ_i = log u_i + ρ − mean_j w_ij·h_ij/τ_i,  w_ij = exp(h_ij/τ_i)/u_i
    v_i ← (1−β)·v_i + β·G_i,   τ_i ← clip(τ_i − η·v_i, τ_min, τ_max)

    With γ = 1, G_i = ρ − KL(softmax(h_i/τ_i) ‖ uniform): τ_i rises until the anchor's negatives
    are weighted no more unevenly than ρ allows. KL is at most the log of the number of negatives
    in a batch, so a larger ρ drives τ down unless γ < 1 gathers more. The loss of a step uses the
    temperatures from before it.

    Args:
        num_samples: see :class:`SogCLR`.
        rho: radius of the uncertainty set, > 0; published: 6 to 8 (bimodal), 0.3 to 0.4 (unimodal).
        gamma: weight of the newest estimate, in (0, 1].
        tau_init: temperature of a sample that was never seen.
        tau_range: (τ_min, τ_max).
        lr: η, > 0.
        beta: weight of the NEW gradient in its average, in (0, 1].
        max_gradient: G is clipped to ± this; None for never.

    The other arguments are those of :class:`SogCLR`.

    Raises:
        ValueError: a value outside its range.
    """

    def __init__(
        self,
        num_samples: Sizes,
        rho: float = 6.0,
        gamma: Control | float = 0.8,
        tau_init: float = 0.01,
        tau_range: tuple[float, float] = (0.005, 1.0),
        lr: float = 0.03,
        beta: float = 0.9,
        *,
        max_gradient: float | None = 5.0,
        **options: Unpack[SharedOptions],
    ) -> None:
        low, high = (finite("tau_range", end) for end in tau_range)
        if not 0 < low <= finite("tau_init", tau_init) <= high:
            raise ValueError(
                f"need 0 < tau_min <= tau_init <= tau_max, got {low}, {tau_init}, {high}"
            )
        self._tau_init = tau_init
        super().__init__(num_samples, tau_init, gamma, **options)
        for name, value, top in (("rho", rho, math.inf), ("lr", lr, math.inf), ("beta", beta, 1.0)):
            if not 0 < finite(name, value) <= top:
                raise ValueError(f"{name} must be in (0, {top:g}], got {value}")
        if max_gradient is not None and not max_gradient > 0:
            raise ValueError(f"max_gradient must be > 0 or None, got {max_gradient}")
        self.rho, self.lr, self.beta = rho, lr, beta
        self.max_gradient = max_gradient
        self.low, self.high = low, high
        self._individual: dict[Direction, Individual] = {
            "x2y": Individual(self._table("x2y"), low, high),
            "y2x": Individual(self._table("y2x"), low, high),
        }
        self.strength = self._individual["x2y"]

    def tau(self, index: Ids) -> Tensor | tuple[Tensor, Tensor]:
        """The temperatures that these samples have now.

        Args:
            index: (N,) long, samples of x; or (ids of x, ids of y) for those of both sides.
        """
        if isinstance(index, tuple):
            return self.strength.at(index[0]), self._individual["y2x"].at(index[1])
        return self.strength.at(index)

    def _columns(self) -> dict[str, float]:
        return {"log_u": -math.inf, "tau": self._tau_init, "momentum": 0.0}

    def _tau(self, batch: Batch, direction: Direction) -> Tensor:
        return batch.values(self._individual[direction], direction)

    def _values(self, part: Partition) -> Tensor:
        return part.tau * (part.log_u + self.rho)

    @torch.no_grad()
    def _observe(self, batch: Batch, parts: Mapping[Direction, Partition]) -> None:
        """Note u_i and G_i of each anchor; both directions' G from one product."""
        reductions = []
        for d, part in parts.items():
            scale = 1 / part.tau
            offset = part.positives * scale + part.log_u + part.log_negatives
            numbers = (batch.number(scale, d), batch.number(offset, d))
            reductions.append(Reduction(along(d), "sum", Tilted(), numbers))
        sums = batch.reduce(*reductions, own=True)
        for tilted, (d, part) in zip(sums, parts.items(), strict=True):
            ratio = torch.exp(part.log_g - part.log_u)
            mean_wz = (tilted - part.positives * ratio) * (1 / part.tau)
            gradient = part.log_u + self.rho - mean_wz
            keep = ~part.alone
            self._pending[d].add(
                batch.ids[d][keep], part.log_u[keep].double().exp(), gradient[keep].double()
            )

    def _commit(self, table: SampleTable, ids: Tensor, means: Tensor) -> None:
        rows = table.read(ids)
        gradient = means[:, 1]
        if self.max_gradient is not None:
            gradient = gradient.clamp(-self.max_gradient, self.max_gradient)
        momentum = (1 - self.beta) * rows["momentum"].double() + self.beta * gradient
        tau = (rows["tau"].double() - self.lr * momentum).clamp(self.low, self.high)
        table.write(ids, {"log_u": means[:, 0].log(), "momentum": momentum, "tau": tau})
