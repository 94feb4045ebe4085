"""Losses with rows and columns of their own, such as prototypes, that ask another loss."""

from __future__ import annotations

from typing import Literal, TypedDict

from torch import Tensor

from tauten.candidates.prototypes import Prototypes
from tauten.checks import finite, whole
from tauten.controls import Control
from tauten.losses.base import ContrastiveLoss
from tauten.modules import StateModule
from tauten.pairwise.engine import Tile
from tauten.pairwise.sinkhorn import Marginal
from tauten.relations import Ids


class ColumnOptions(TypedDict, total=False):
    """Keywords of such a loss; :class:`InfoNCE` says what they mean."""

    weight: Control | float | None
    tile: Tile
    ranks: Literal["auto", "gather", "ring", "local"]


class OwnColumns(StateModule):
    """A loss that is asked about rows and columns which are no pairs of a batch.

    Args:
        loss: that is asked, with the temperature.
        unfit: why its temperature cannot follow from the pairs of a batch.

    Raises:
        ValueError: a temperature that does.
    """

    def __init__(self, loss: ContrastiveLoss, unfit: str) -> None:
        super().__init__()
        if loss.strength.needs_batch:
            raise ValueError(
                f"{loss.strength!r} cannot be {type(self).__name__}'s temperature: it follows from "
                f"{unfit}"
            )
        self.loss = loss

    def tau(self, index: Ids) -> Tensor | tuple[Tensor, Tensor]:
        """Return the temperature that these samples have now, detached."""
        return self.loss.tau(index)

    def step(self) -> None:
        """Advance by one optimiser step."""
        self.loss.step()


class OfPrototypes(OwnColumns):
    """A loss between samples and prototypes to which a transport with given shares assigns them.

    Args:
        loss: that is asked, with the temperature.
        prototypes: K of them.
        marginal: (K,) > 0 their shares of all samples, or ``"uniform"``.
        eps: of Sinkhorn, > 0.
        iterations: of Sinkhorn, >= 1.

    Raises:
        ValueError: options out of range, or shares that do not fit the prototypes.
    """

    def __init__(
        self,
        loss: ContrastiveLoss,
        prototypes: Prototypes,
        marginal: Marginal,
        eps: float,
        iterations: int,
    ) -> None:
        super().__init__(loss, "the pairs of a batch, and here samples meet prototypes")
        self.prototypes = prototypes
        self.eps, self.iterations = finite("eps", eps), whole("iterations", iterations, 1)
        if isinstance(marginal, Tensor):
            self.register_buffer("marginal", marginal.detach().clone())
        else:
            self.marginal = marginal
        self._across: Literal["auto", "local"] = "local" if loss.ranks == "local" else "auto"
        prototypes.assign(prototypes.vectors[:0], marginal, eps=eps, ranks="local")

    def step(self) -> None:
        """Advance by one optimiser step: schedules and prototypes move."""
        super().step()
        self.prototypes.step()
