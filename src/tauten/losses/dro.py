"""Robust reduction over anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from tauten.checks import finite

if TYPE_CHECKING:
    from tauten.losses.batch import Batch


@dataclass(frozen=True)
class DRO:
    """Mean over anchors in which harder ones weigh more: ``reduction=DRO(temperature)``.

    L = Σ_i w_i·ℓ_i,  w_i = exp(ℓ_i/λ) / Σ_k exp(ℓ_k/λ)

    k runs over the anchors of all processes. The weights are held fixed, so that the gradient is
    that of λ·log mean_i exp(ℓ_i/λ), the worst case over weights whose divergence from the uniform
    ones costs λ (IR-DRO; Chen et al. 2024, "Take the Bull by the Horns"). λ → ∞ gives the mean,
    λ → 0 the largest loss. Where labels make no pairs of x and y each side has weights of its own.

    Args:
        temperature: λ > 0, in units of the loss.

    Raises:
        ValueError: a temperature that is not a finite number > 0.
    """

    temperature: float

    def __post_init__(self) -> None:
        if finite("DRO's temperature", self.temperature) <= 0:
            raise ValueError(
                f"DRO's temperature must be > 0, got {self.temperature!r}; the larger, the nearer "
                "to reduction='mean'"
            )

    def weighted(self, parts: Sequence[Tensor], batch: Batch) -> list[Tensor]:
        """Return losses whose mean over the anchors of all processes is L.

        Args:
            parts: of :meth:`ContrastiveLoss.sides`; two are half the losses of each side.
            batch: that they belong to.
        """
        scale = len(parts) / self.temperature
        return [part * batch.relative_exp(part * scale) for part in parts]
