"""A loss as a module: its options, what it can do, its controls and its steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tauten.checks import flag, names_options
from tauten.controls import Control, Direction, Individual, TaU, TempNet, as_control
from tauten.controls.base import advance
from tauten.controls.tables import SideTables
from tauten.ids import check_index
from tauten.losses.beside import KEYWORDS
from tauten.losses.composition import ALONE, WEIGHT, Composition, check_composition, check_range
from tauten.losses.dro import DRO
from tauten.losses.equalized_force import RunningMean
from tauten.losses.finite import NonFiniteLossError
from tauten.losses.options import Across, Directions, Force, ReductionMode, one_of
from tauten.losses.traps import Traps
from tauten.messages import Ragged, several_processes
from tauten.modules import StateModule, parts
from tauten.observations import exchange, pending
from tauten.pairwise.engine import Tile, check_tile
from tauten.relations import Ids

#: of a loss that does not declare that it uses a keyword
UNSAID = "it does not say that it uses them"
#: methods that may bring more about a batch than embeddings and ids
_CALLS = frozenset(("forward", "batch", "anchor_losses", "sides"))


class LossModule(StateModule):
    """A loss between batches: its options, what it can do, its controls and its steps."""

    #: the name of what the control sets: "temperature" or "margin"
    strength_name: str = "temperature"
    #: what ``force=`` may be
    forces: tuple[Force, ...] = ("plain",)
    #: which controls may drive it
    composition: Composition = ALONE
    #: whether embeddings and ids say all, so that each process may take a whole small batch
    pools: bool = False
    #: why it takes no ``keys=``; empty if it does
    no_keys: str = ""
    #: whether it compares the samples within x and within y too, so that two views are its sides
    within_sides: bool = False
    #: why it takes none of these keywords; empty if it does, which it must declare
    no_targets: str = UNSAID
    no_repulsion: str = UNSAID
    no_negatives: str = UNSAID

    _step: Tensor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "anchor_losses" in cls.__dict__:
            if "forces" not in cls.__dict__:
                cls.forces = ("plain",)
            if "composition" not in cls.__dict__:
                cls.composition = ALONE
            for name in KEYWORDS:
                if f"no_{name}" not in cls.__dict__:
                    setattr(cls, f"no_{name}", UNSAID)
        if "pools" not in cls.__dict__ and not _CALLS.isdisjoint(cls.__dict__):
            cls.pools = False
        also = {"tau": cls.strength_name, "logit_scale": cls.strength_name}
        names_options(cls, also, passed=("force",))

    def __init__(
        self,
        strength: Control | float,
        *,
        force: Force = "plain",
        weight: Control | float | None = None,
        directions: Directions = "both",
        normalize: bool = True,
        tile: Tile = "auto",
        reduction: ReductionMode | DRO = "mean",
        ranks: Across = "auto",
    ) -> None:
        super().__init__()
        self.strength = as_control(strength)
        self._check_strength()
        name = type(self).__name__
        check_composition(
            name, self.strength_name, self.strength, self.composition, cosine=normalize
        )
        self.force = one_of("force", force, self.forces)
        if force == "equalized" and self.strength.granularity == "pair":
            raise ValueError(
                f"{name}'s force='equalized' divides an anchor's τ out, but {self.strength!r} has "
                "one for each pair"
            )
        one_of("directions", directions, ("both", "x2y", "y2x"))
        self.directions: Directions = directions
        if not isinstance(reduction, DRO):
            one_of("reduction", reduction, ("mean", "sum", "none"))
        elif reduction.control.fixed is None:
            self.robust = reduction.control
        self.reduction: ReductionMode | DRO = reduction
        self.ranks = one_of("ranks", ranks, ("auto", "gather", "ring", "local"))
        self.normalize = flag("normalize", normalize)
        self.tile = check_tile(tile)
        weight = None if weight is None else as_control(weight)
        self.weight = None if weight is None or weight.fixed == 1 else weight
        if self.weight is not None:
            check_range("weight", self.weight, 0.0, strict=False)
            check_composition(name, "weight", self.weight, WEIGHT, cosine=normalize)
        self._use_controls()
        self.running = RunningMean() if force == "equalized" else None
        self.last_tau: tuple[Tensor, Tensor] | None = None
        #: what the last compiled batch returned
        self._unread: Tensor | None = None
        #: whether the processes were found to have the same parameters
        self.agreed = False
        self._traps = Traps()
        #: of the messages about batches, and about what is noted for a step
        self._room, self._noted_room = Ragged(), Ragged()
        self._exchanged = False
        self.register_buffer("_step", torch.zeros((), dtype=torch.int64))

    def _use_controls(self) -> None:
        """Tell all controls in which directions they are used."""
        for part in self.modules():
            if isinstance(part, Control):
                part.use(self.directions)

    def tau(self, index: Ids) -> Tensor | tuple[Tensor, Tensor]:
        """Return the temperature (or margin) that these samples have now, detached.

        Args:
            index: (N,) long, samples of x; or (ids of x, ids of y), for which a pair is returned.

        Raises:
            ValueError: a control whose values follow from the batch; ``last_tau`` has the ids and
                values (n,) of the rows of x in the last batch, at their positives.
        """
        with torch.no_grad():
            if isinstance(index, tuple):
                if len(index) != 2:
                    raise ValueError(
                        f"index must be ids, or (ids of x, ids of y), got {len(index)}"
                    )
                sides = [check_index(side) for side in index]
                if not torch.equal(sides[0], sides[1].to(sides[0].device)):
                    self.check_one_table()
                return self._side(index[0], "x2y"), self._side(index[1], "y2x")
            return self._side(index, "x2y")

    def _side(self, index: Tensor, direction: Direction) -> Tensor:
        return self.strength.side(index, direction)

    def check_one_table(self) -> None:
        """Refuse a control that would look up ids of y in the table of x."""
        for name, part in self.named_children():
            if isinstance(part, Control) and part.needs_index and not part.two_sided:
                name = self.strength_name if name == "strength" else name
                raise ValueError(
                    f"index= has other ids for y than for x, but {type(self).__name__}'s {name}, "
                    f"{part!r}, has one table, of x: give it numbers of both sides, such as "
                    "ClusterShift(counts=(counts of x, counts of y)), or one id for each pair"
                )

    @property
    def steps(self) -> int:
        """Optimiser steps done."""
        return int(self._step)

    def step(self, *, controls: bool = True) -> None:
        """Advance by one optimiser step: schedules move, tables and running means are updated.

        Call it once after each ``optimizer.step()``. A control that several losses share would be
        advanced by each of them: let all but one of them leave it to that one.

        Args:
            controls: whether its controls are advanced; ``False`` where another loss, which shares
                them, does so.
        """
        self._check_unread()
        modules = parts(self)
        self._exchange(controls=controls)
        self._traps.before_step(self, modules, controls)
        if controls:
            advance(modules)
        self._traps.after_step(modules)
        if self.running is not None:
            self.running.commit(merge=self.ranks == "local")
        self._exchanged = False
        self._step.add_(1)

    def _exchange(self, *, controls: bool) -> None:
        """Send what the loss and its controls noted for the step, once, in one message."""
        if not several_processes() or self._exchanged:
            return
        modules = [part for part in parts(self) if controls or not isinstance(part, Control)]
        noted = pending(modules)
        if noted:
            exchange(noted, self._noted_room)
        self._exchanged = True

    def _check_unread(self) -> None:
        """Refuse what a compiled loss returned, whose graph reads no number."""
        value, self._unread = self._unread, None
        if value is not None and not bool(torch.isfinite(value).all()):
            raise NonFiniteLossError(
                "the compiled loss of the last batch is NaN or infinite: pass the batch to the "
                "loss itself, which names the rows"
            )

    def _check_strength(self) -> None:
        check_range(f"{type(self).__name__}'s temperature", self.strength, 0.0, strict=True)

    def sided(self) -> bool:
        """Return whether both directions are in use and some part has a state for each side."""
        return self.directions == "both" and any(
            isinstance(part, (SideTables, Individual, TempNet, TaU)) for part in self.modules()
        )
