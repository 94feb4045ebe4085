"""Losses with rows and columns of their own, such as prototypes, that ask another loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, TypedDict

from torch import Tensor

from tauten.candidates.prototypes import Prototypes
from tauten.checks import finite, whole
from tauten.controls import Control, as_control
from tauten.losses.composition import (
    Composition,
    Doubtful,
    Refused,
    check_composition,
    check_range,
)
from tauten.losses.decoupled import DecoupledSoftmax
from tauten.losses.infonce import InfoNCE
from tauten.modules import StateModule
from tauten.pairwise.engine import Tile
from tauten.pairwise.sinkhorn import Marginal
from tauten.relations import Ids

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ColumnOptions(TypedDict, total=False):
    """Keywords of such a loss; :class:`InfoNCE` says what they mean."""

    weight: Control | float | None
    tile: Tile
    ranks: Literal["auto", "gather", "ring", "local"]


_SOFT = Doubtful(
    "targets are shares of prototypes, so it can rise until all prototypes are alike: its upper "
    "end alone holds it"
)


class OwnColumns(StateModule):
    """A loss that asks another about rows and columns which are no pairs of a batch.

    Args:
        temperature: a control or a number.
        reduction: reduction of the loss that is asked.

    Raises:
        ValueError: a temperature that can reach 0 or below, that follows from the pairs of a batch,
            or that is taught by what this loss does not have.
    """

    #: the loss that is asked
    asked: ClassVar[type[InfoNCE] | type[DecoupledSoftmax]]
    #: which temperatures may drive it
    composition: ClassVar[Composition]
    #: why its temperature cannot follow from the pairs of a batch
    unfit: ClassVar[str]

    def __init__(
        self,
        temperature: Control | float,
        reduction: Literal["mean", "sum"] = "mean",
        **options: Unpack[ColumnOptions],
    ) -> None:
        super().__init__()
        control, name = as_control(temperature), type(self).__name__
        check_range(f"{name}'s temperature", control, 0.0, strict=True)
        if control.needs_batch:
            raise ValueError(
                f"{control!r} cannot be {name}'s temperature: it follows from {self.unfit}"
            )
        check_composition(name, "temperature", control, self.composition)
        self.loss = self.asked(control, directions="x2y", reduction=reduction, **options)

    def tau(self, index: Ids) -> Tensor | tuple[Tensor, Tensor]:
        """Return the temperature that these samples have now, detached."""
        return self.loss.tau(index)

    def step(self, *, controls: bool = True) -> None:
        """Advance by one optimiser step.

        Args:
            controls: as for the other losses.
        """
        self.loss.step(controls=controls)


class OfPrototypes(OwnColumns):
    """A loss between samples and prototypes to which a transport with given shares assigns them.

    Args:
        temperature: a control or a number.
        prototypes: K of them.
        marginal: (K,) > 0 their shares of all samples, or ``"uniform"``.
        eps: regularisation of Sinkhorn, > 0.
        iterations: iterations of Sinkhorn, >= 1.

    Raises:
        ValueError: options out of range, or shares that do not fit the prototypes.
    """

    asked = InfoNCE
    composition = Composition(
        learned=_SOFT,
        learned_anchor=_SOFT,
        dual=Refused(
            "the robust objective compares negatives with one positive, and here each prototype "
            "has a share of a sample"
        ),
    )
    unfit = "the pairs of a batch, and here samples meet prototypes"

    def __init__(
        self,
        temperature: Control | float,
        prototypes: Prototypes,
        marginal: Marginal,
        eps: float,
        iterations: int,
        **options: Unpack[ColumnOptions],
    ) -> None:
        super().__init__(temperature, **options)
        self.prototypes = prototypes
        self.eps, self.iterations = finite("eps", eps), whole("iterations", iterations, 1)
        if isinstance(marginal, Tensor):
            self.register_buffer("marginal", marginal.detach().clone())
        else:
            self.marginal = marginal
        self._across: Literal["auto", "local"] = "local" if self.loss.ranks == "local" else "auto"
        prototypes.assign(prototypes.vectors[:0], marginal, eps=eps, ranks="local")

    def step(self, *, controls: bool = True) -> None:
        """Advance by one optimiser step: schedules and prototypes move."""
        super().step(controls=controls)
        self.prototypes.step()
