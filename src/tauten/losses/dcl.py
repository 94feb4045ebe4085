"""Decoupled contrastive loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from tauten.controls import Control, Direction
from tauten.losses.batch import Batch
from tauten.losses.composition import Composition, Doubtful, Refused
from tauten.losses.equalized_force import Forced
from tauten.losses.infonce import InfoNCE
from tauten.losses.options import Force, Options
from tauten.losses.partition import need_negatives
from tauten.losses.queued import Mixed
from tauten.losses.weighting import Weighted
from tauten.spec import Context, ControlSpec

if TYPE_CHECKING:
    from typing_extensions import Unpack

_NO_TARGETS = (
    "where every candidate is partly positive, no negatives are left for its denominator: use "
    "InfoNCE, or labels="
)


class DCL(InfoNCE):
    """InfoNCE without the positive in the denominator, so that attraction never fades.

    ℓ_i = ½ [ LSE_{j≠i}(s_ij/τ_i) + LSE_{j≠i}(s_ji/τ_i) ] − s_ii/τ_i

    Yeh et al., ECCV 2022, between the two sides. An anchor whose candidates are all ignored or
    positive contributes 0. Arguments as for :class:`InfoNCE`, without ``force="reweighted"`` and
    ``margin=``, which would change nothing, and ``label_smoothing=``.

    A temperature cannot be learned by the gradient of this loss: once pairs are separated it falls
    without bound as τ does. Learn it by the robust objective (:class:`SogCLR` with ``rho``,
    :class:`Individual`, :class:`TempNet`).
    """

    pools = True
    forces: tuple[Force, ...] = ("plain", "equalized")
    composition = Composition(
        learned=Refused(
            "once pairs are separated the loss falls without bound as τ does; learn τ by the "
            "robust objective: SogCLR(n, Learnable(...), rho=...), Individual or TempNet"
        ),
        learned_anchor=Doubtful(
            "once pairs are separated the loss falls as τ does, so only its lower bound holds τ"
        ),
    )
    no_targets = _NO_TARGETS
    no_repulsion = ""
    no_negatives = ""

    def __init__(self, temperature: Control | float, **options: Unpack[Options]) -> None:
        super().__init__(temperature, **options)

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        need_negatives(self, batch, directions)
        return self._from_negatives(batch, directions)

    def _of(self, z: Tensor) -> Tensor:
        return z


@dataclass
class DCLSpec(Mixed, Forced, Weighted):
    """InfoNCE without the positive in the denominator (DCL)."""

    kind: ClassVar[str] = "dcl"
    title: ClassVar[str] = "DCL"
    views: ClassVar[bool] = True

    def build(self, control: ControlSpec, context: Context) -> DCL:
        return DCL(
            control.build(context),
            **self.keywords(control, context),
        )
