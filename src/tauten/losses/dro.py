"""Robust reduction over anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.checks import finite
from tauten.controls import Control, as_control
from tauten.losses.composition import Composition, Refused, check_composition

if TYPE_CHECKING:
    from tauten.losses.batch import Batch

_ONE = Refused("all anchors of a batch share it")
_COMPOSITION = Composition(
    learned_anchor=_ONE,
    dual=Refused("Individual and TempNet are temperatures of candidates, taught by the loss"),
    pair=_ONE,
)


@dataclass(frozen=True)
class DRO:
    """Mean over anchors in which harder ones weigh more: ``reduction=DRO(temperature)``.

    L = Σ_i w_i·ℓ_i,  w_i = exp(ℓ_i/λ) / Σ_k exp(ℓ_k/λ)

    k runs over the anchors of all processes. The weights are held fixed, so that the gradient is
    that of λ·log mean_i exp(ℓ_i/λ), the worst case over weights whose divergence from the uniform
    ones costs λ (IR-DRO; Chen et al. 2024, "Take the Bull by the Horns"). λ → ∞ gives the mean,
    λ → 0 the largest loss. Where labels make no pairs of x and y each side has weights of its own.

    With ``rho`` the weights may diverge by ρ and λ is learned, by the dual of the constrained
    problem (the objective of SCDRO; Qi et al. 2022, for one batch):

    L = λ·log mean_i exp(ℓ_i/λ) + (λ − λ₀)·ρ,  ∂L/∂λ = ρ − KL(w ‖ uniform)

    Args:
        temperature: λ > 0, in units of the loss: a number, a schedule such as ``Anneal``, or with
            ``rho`` a ``Learnable``, whose lower bound is λ₀.
        rho: ρ >= 0; 0 for a λ that is not learned.

    Raises:
        ValueError: a temperature that can leave the finite numbers > 0 or that differs between
            anchors, a learned one without rho, or rho without a learned one.
    """

    temperature: Control | float
    rho: float = 0.0

    def __post_init__(self) -> None:
        given, control = self.temperature, self.control
        low, high = control.range()
        if not 0 < low <= high < float("inf"):
            raise ValueError(
                f"DRO's temperature must be > 0, got {given!r}; the larger, the nearer "
                "to reduction='mean'"
            )
        check_composition("DRO", "temperature", control, _COMPOSITION)
        if not control.shared or control.needs_batch:
            raise ValueError(f"{given!r} cannot be DRO's temperature: {_ONE.reason}")
        learned = control.learns != "nothing"
        if finite("DRO's rho", self.rho) < 0 or (self.rho and not learned):
            raise ValueError(
                f"DRO's rho must be 0 for a temperature that is not learned, and > 0 for one that "
                f"is, got rho={self.rho!r} and {given!r}: give DRO(Learnable(...), rho=...)"
            )
        if learned and not self.rho:
            raise ValueError(
                f"{given!r} cannot be DRO's temperature without rho: the loss falls as λ grows, "
                "and rho > 0 holds it, such as 0.5"
            )

    @property
    def control(self) -> Control:
        """The temperature as a control."""
        if isinstance(self.temperature, Control):
            return self.temperature
        return as_control(finite("DRO's temperature", self.temperature))

    def weighted(self, parts: Sequence[Tensor], batch: Batch) -> list[Tensor]:
        """Return losses whose mean over the anchors of all processes is Σ_i w_i·ℓ_i.

        Args:
            parts: of :meth:`ContrastiveLoss.sides`; two are half the losses of each side.
            batch: the batch that they belong to.
        """
        return [
            part * weight for part, weight in zip(parts, self._weights(parts, batch), strict=True)
        ]

    def price(self, parts: Sequence[Tensor], batch: Batch) -> Tensor | None:
        """Return () what the dual adds for a learned λ, λ·(ρ − KL) − λ₀·ρ; None for others.

        Its gradient is the same on all processes.
        """
        if not self.rho:
            return None
        weights = self._weights(parts, batch)
        spent = [batch.mean(torch.special.xlogy(weight, weight)) for weight in weights]
        divergence = sum(spent[1:], spent[0]) / len(spent)
        price: Tensor = self._value(batch) * (self.rho - divergence)
        return price - self.control.range()[0] * self.rho

    def _weights(self, parts: Sequence[Tensor], batch: Batch) -> list[Tensor]:
        scale = len(parts) / self._value(batch).detach()
        return [batch.relative_exp(part * scale) for part in parts]

    def _value(self, batch: Batch) -> Tensor:
        value = batch.strength(self.control, "x2y")
        assert isinstance(value, Tensor)
        return value
