"""iSogCLR: its loss, and how the τ of each sample is updated (by ``controls/individual.py``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tauten.controls import Control, Individual
from tauten.controls.tables import Sizes
from tauten.losses.sogclr import SogCLR, TableOptions
from tauten.losses.weighting import SizeWeighted
from tauten.spec import Context, ControlSpec, NewestWeight

if TYPE_CHECKING:
    from typing_extensions import Unpack


class iSogCLR(SogCLR):  # noqa: N801 (the published name)
    """SogCLR with a temperature for each sample, learned by its own gradient (Qiu et al., 2023).

    F = mean_i τ_i · log E_j exp(h_ij/τ_i) + τ_i·ρ, both ways with temperatures of their own.

    G_i = ∂F_i/∂τ_i = log u_i + ρ − mean_j w_ij·h_ij/τ_i,  w_ij = exp(h_ij/τ_i)/u_i
    v_i ← (1−β)·v_i + β·G_i,   τ_i ← clip(τ_i − η·v_i, τ_min, τ_max)

    With γ = 1, G_i = ρ − KL(softmax(h_i/τ_i) ‖ uniform): τ_i rises until the anchor's negatives
    are weighted no more unevenly than ρ allows. KL is at most the log of the number of negatives
    in a batch, so a larger ρ drives τ down unless γ < 1 gathers more. The loss of a step uses the
    temperatures from before it.

    It is :class:`SogCLR` driven by :class:`tauten.Individual`, which says what the arguments from
    ``rho`` on mean; the others are those of :class:`SogCLR`.

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
        **options: Unpack[TableOptions],
    ) -> None:
        control = Individual(
            num_samples,
            rho,
            tau_init,
            tau_range,
            lr,
            beta,
            max_gradient=max_gradient,
            table_device=options.get("table_device"),
        )
        super().__init__(num_samples, control, gamma, **options)


@dataclass
class iSogCLRSpec(SizeWeighted):  # noqa: N801 (the published name)
    """SogCLR with a temperature learned for each sample (iSogCLR)."""

    kind: ClassVar[str] = "isogclr"
    title: ClassVar[str] = "iSogCLR"
    views: ClassVar[bool] = True

    gamma: NewestWeight = 0.8
    """weight of the newest estimate of a sample's partition"""

    def own_control(self) -> str:
        return "individual"

    def build(self, control: ControlSpec, context: Context) -> SogCLR:
        return SogCLR(
            context.sizes,
            control.build(context),
            self.gamma,
            **self.keywords(control, context),
        )
