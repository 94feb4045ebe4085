"""The four objectives of FastCLIP."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from torch import Tensor

from tauten.checks import finite, two
from tauten.controls import Constant, Control, Direction, Individual, Learnable
from tauten.controls.individual import IndividualSpec
from tauten.controls.learnable import LearnableSpec
from tauten.controls.schedules import Anneal
from tauten.controls.tables import Sizes
from tauten.losses.composition import Composition
from tauten.losses.sogclr import SogCLR, TableOptions
from tauten.spec import Context, ControlSpec, LossSpec, NewestWeight, Range, Share

if TYPE_CHECKING:
    from typing_extensions import Unpack

Version = Literal["v0", "v1", "v2", "v3"]

#: each version's published (τ at the start, ρ)
_PUBLISHED: dict[Version, tuple[float, float]] = {
    "v0": (0.07, 0.0),
    "v1": (0.07, 0.0),
    "v2": (0.03, 7.0),
    "v3": (0.07, 6.5),
}


class FastCLIP(SogCLR):
    """FastCLIP (Wei et al., 2024): SogCLR's averages, four ways to treat the temperature.

    v0   mean_i log(ε + u_i)                     one learned τ, by gradient
    v1   mean_i τ·log(ε + u_i)                   one constant τ
    v2   mean_i τ_i·log(ε + u_i) + ρ·τ_i         τ_i for each sample and side, by Adam
    v3   mean_i τ·log(ε + u_i) + ρ·τ             one learned τ, by gradient

    Every gradient is that of the objective. The public code of v3 takes log u by one half and the
    rest in full, so a ρ tuned with it does not carry over; nor does v2's there multiply by τ_i.
    Both directions are averaged, so gradients are half of those of the published sum.

    The published γ falls by epoch from 1: ``Anneal(1.0, gamma_min, steps=epochs * steps_per_epoch,
    every=steps_per_epoch)`` with about half of the training's epochs.

    v0's τ has no lower bound of its own once pairs are separated; ``tau_range`` holds it.

    Args:
        num_samples: see :class:`SogCLR`.
        version: "v0" to "v3".
        gamma: weight of the newest estimate, in (0, 1]; published γ_min: 0.2, LAION 0.8.
        rho: ρ of v2 and v3; published: 7 and 6.5 (CC3M), 8.5 (CC12M), 16 (LAION).
        tau_init: τ at the start; published: 0.03 (v2), else 0.07.
        tau_range: bounds of a learned τ.
        tau_lr: learning rate of v2's temperatures; v0 and v3 learn with the optimiser that has the
            loss's parameters.
        adam: decays of v2's moments.
        epsilon: ε, >= 0; published: 1e-14, LAION 1e-6.

    The other arguments are those of :class:`SogCLR`.

    Raises:
        ValueError: an unknown version, a value outside its range, ρ given to v0 or v1.
    """

    def __init__(
        self,
        num_samples: Sizes,
        version: Version = "v3",
        gamma: Control | float = 0.2,
        *,
        rho: float | None = None,
        tau_init: float | None = None,
        tau_range: tuple[float, float] = (0.01, 1.0),
        tau_lr: float = 0.0133,
        adam: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-14,
        **options: Unpack[TableOptions],
    ) -> None:
        if not isinstance(version, str) or version not in _PUBLISHED:
            raise ValueError(f"version must be one of {sorted(_PUBLISHED)}, got {version!r}")
        start, radius = _PUBLISHED[version]
        start = start if tau_init is None else tau_init
        tau_range = two("tau_range", tau_range)
        if rho is not None and not radius:
            raise ValueError(f"FastCLIP-{version} has no rho, got {rho}; v2 and v3 have")
        radius = radius if rho is None else rho
        if finite("epsilon", epsilon) < 0:
            raise ValueError(f"epsilon must be >= 0 and finite, got {epsilon}")
        if version in ("v2", "v3") and finite("rho", radius) <= 0:
            raise ValueError(f"rho must be > 0 for FastCLIP-{version}, got {radius}")
        control: Control
        if version == "v1":
            control = Constant(start)
        elif version == "v2":
            control = Individual(
                num_samples,
                radius,
                start,
                tau_range,
                tau_lr,
                adam=adam,
                table_device=options.get("table_device"),
            )
        else:
            control = Learnable(start, *tau_range)
        self.version = version
        self.epsilon = epsilon
        self._leading_tau = version != "v0"
        super().__init__(num_samples, control, gamma, radius, **options)

    def _composition(self) -> Composition:
        return Composition() if self.version == "v0" else super()._composition()

    def _log_constant(self, direction: Direction, tau: Tensor) -> Tensor | None:
        return tau.new_full((), math.log(self.epsilon)) if self.epsilon else None


#: the control of each version
_CONTROLS = {"v0": "learnable", "v1": "constant", "v2": "individual", "v3": "learnable"}


@dataclass
class FastCLIPSpec(LossSpec):
    """SogCLR for image-text pairs with one τ or one for each sample (FastCLIP)."""

    kind: ClassVar[str] = "fastclip"
    title: ClassVar[str] = "FastCLIP"

    version: Literal["v0", "v1", "v2", "v3"] = "v3"
    """v0, v3 learn one τ (control.kind learnable), v1 has a constant one (constant), v2 one for
    each sample (individual)"""
    gamma: NewestWeight = 0.8
    """weight of the newest estimate of a sample's partition, to which it falls from 1, by epoch"""
    gamma_epochs: Share = 0.5
    """share of the training's epochs in which gamma falls"""
    rho: Annotated[float, Range(0.0, 1e6, above=True)] | None = None
    """v2, v3: radius of the uncertainty set; None for the published one"""

    def own_control(self) -> str:
        return _CONTROLS[self.version]

    def check(self, control: ControlSpec) -> None:
        super().check(control)
        if isinstance(control, IndividualSpec):
            usual = IndividualSpec()
            if (control.beta, control.max_gradient) != (usual.beta, usual.max_gradient):
                raise ValueError(
                    "family=fastclip moves individual temperatures by Adam: leave control.beta and "
                    f"control.max_gradient out, got {control.beta} and {control.max_gradient}"
                )
            if self.rho is not None:
                raise ValueError(
                    f"loss.version=v2 has its radius in control.rho: leave out loss.rho={self.rho}"
                )

    def build(self, control: ControlSpec, context: Context) -> FastCLIP:
        self.check(control)
        falls = self.gamma_epochs * context.total_steps
        options: dict[str, Any] = {"tau_init": getattr(control, "value", None), "rho": self.rho}
        if isinstance(control, (LearnableSpec, IndividualSpec)):
            options["tau_range"] = (control.low, control.high)
        if isinstance(control, IndividualSpec):
            options |= {"tau_lr": control.lr, "rho": control.rho}
        return FastCLIP(
            context.sizes,
            self.version,
            Anneal(1.0, self.gamma, falls, every=context.per_epoch),
            **options,
            **self.directions(context),
        )
