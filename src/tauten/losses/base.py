"""Base of all contrastive losses: checks, precision, force, weight, reduction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import torch
from torch import Tensor

from tauten.candidates.keys import Keys
from tauten.candidates.own import Negatives
from tauten.checks import few, flag, names_options
from tauten.controls import Control, Direction, Individual, TaU, TempNet, as_control
from tauten.controls.base import advance
from tauten.controls.tables import SideTables
from tauten.ids import check_index
from tauten.losses import parameters
from tauten.losses.batch import Batch
from tauten.losses.beside import KEYWORDS, Beside, check_with_keys, hard_negatives, taken
from tauten.losses.composition import ALONE, WEIGHT, Composition, check_composition, check_range
from tauten.losses.dro import DRO
from tauten.losses.force import RunningMean
from tauten.losses.keyed import met
from tauten.losses.traps import FOLLOWED, Traps, looks_up
from tauten.modules import StateModule, parts, refuse_vmap
from tauten.pairwise.engine import Tile, check_tile
from tauten.pairwise.exchange import Ranks, grouped, several_processes
from tauten.pairwise.once import transformed
from tauten.pairwise.sides import within_range
from tauten.pairwise.whole import held
from tauten.reads import FREE, ask, together, waiting
from tauten.relations import Ids, Relation, Weights, relate

if TYPE_CHECKING:
    from typing_extensions import Unpack

Force = Literal["plain", "equalized", "reweighted"]
Directions = Literal["both", "x2y", "y2x"]
ReductionMode = Literal["mean", "sum", "none"]
Across = Literal["auto", "gather", "ring", "local"]


class SharedOptions(TypedDict, total=False):
    """Keywords that every loss takes; :class:`InfoNCE` says what they mean."""

    weight: Control | float | None
    directions: Directions
    normalize: bool
    tile: Tile
    reduction: ReductionMode | DRO
    ranks: Across


class Options(SharedOptions, total=False):
    """Keywords of losses whose force can be equalized."""

    force: Force


class RelationOptions(TypedDict, total=False):
    """Keywords that say who is positive and who is left out, as in ``ContrastiveLoss.forward``."""

    positives: Tensor | None
    labels: Ids | None
    same: Tensor | Sequence[Ids]
    ignore: Tensor | None
    keys: Keys | None
    targets: Weights | None
    repulsion: Weights | None
    negatives: Negatives | None


_BESIDE = frozenset(KEYWORDS)
#: of a loss that does not declare that it uses a keyword
UNSAID = "it does not say that it uses them"
_SHAPES = "x and y must be (N, d) and (M, d) with the same d > 0 and N > 0, got {} and {}"


class NonFiniteLossError(FloatingPointError, ValueError):
    """The loss, or an embedding that it was given, is NaN or infinite."""


class ContrastiveLoss(StateModule):
    """Base of the losses between x and y; see :class:`InfoNCE` for the arguments.

    A subclass gives :meth:`anchor_losses`. What it can do beside that it declares with it: in
    ``forces`` what ``force=`` may be, in ``composition`` which controls may drive it. Where it
    declares nothing, forces other than the plain one and temperatures that the robust objective
    teaches are refused, also if the class above has them. For ``force="equalized"``
    :meth:`_inverse_size` says what divides the size of the force out.
    """

    #: the name of what the control sets: "temperature" or "margin"
    strength_name: str = "temperature"
    #: what ``force=`` may be
    forces: tuple[Force, ...] = ("plain",)
    #: which controls may drive it
    composition: Composition = ALONE
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
        self.force = _one_of("force", force, self.forces)
        if force == "equalized" and self.strength.granularity == "pair":
            raise ValueError(
                f"{name}'s force='equalized' divides an anchor's τ out, but {self.strength!r} has "
                "one for each pair"
            )
        _one_of("directions", directions, ("both", "x2y", "y2x"))
        self.directions: Directions = directions
        if not isinstance(reduction, DRO):
            _one_of("reduction", reduction, ("mean", "sum", "none"))
        elif reduction.control.fixed is None:
            self.robust = reduction.control
        self.reduction: ReductionMode | DRO = reduction
        self.ranks = _one_of("ranks", ranks, ("auto", "gather", "ring", "local"))
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
        self.register_buffer("_step", torch.zeros((), dtype=torch.int64))

    def _use_controls(self) -> None:
        """Tell all controls in which directions they are used."""
        for part in self.modules():
            if isinstance(part, Control):
                part.use(self.directions)

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        *,
        positives: Tensor | None = None,
        labels: Ids | None = None,
        same: Tensor | Sequence[Ids] = (),
        ignore: Tensor | None = None,
        keys: Keys | None = None,
        targets: Weights | None = None,
        repulsion: Weights | None = None,
        negatives: Negatives | None = None,
    ) -> Tensor:
        """Return the loss of a batch of pairs.

        Args:
            x: (N, d) embeddings of one side, rows normalised here unless ``normalize=False``.
            y: (M, d) embeddings of the other; x[i] and y[i] are a pair unless told otherwise. Rows
                of y that are nobody's positive are further candidates. Without y the rows of x are
                anchors and candidates of each other, none of them its own.
            index: (N,) long, data set positions of the pairs, or ((N,), (M,)) when the sides have
                ids of their own. Required by per-sample controls.
            positives: (N,) long, the row of y that belongs to each row of x.
            labels: (N,) or ((N,), (M,)) long; every pair of equal labels is positive. Where pairs
                cannot be told, because the sides differ in length or in their labels, the loss is
                half the mean (or sum) over the anchors of x and half that over the anchors of y.
            same: id vectors, e.g. ``(image_ids, caption_ids)``; pairs other than positives that
                agree in any of them are not used as negatives.
            ignore: (N, M) bool, further pairs not to use; with labels positives too.
            keys: what x meets in the place of y, and y in the place of x: keys of both sides, those
                of the batch first, then such as a queue's. They bring all ids with them.
            targets: (N, M) >= 0, how much of each anchor's target a candidate is, up to a factor;
                or of :mod:`tauten.relations`, made tile by tile: a teacher's softmax, a kernel of
                other embeddings, a table of kinds. InfoNCE alone.
            repulsion: (N, M) >= 0, or of :mod:`tauten.relations`, the factor of each negative in
                the denominator; positives have 1. InfoNCE, SupCon, DCL and DCLW.
            negatives: (N, K, d), hard negatives of each row of x, which no other row meets; (of x,
                of y) for both sides, or :class:`tauten.candidates.OwnNegatives`, where some may be
                missing. Over processes each gives those of its own rows. InfoNCE, SupCon, DCL,
                DCLW, SigLIP and MaxMargin.

        Over several processes x and y are this one's shard, which may be empty, and all call
        together. The value is the loss of the whole batch, and its gradient on each process is
        such that the mean over processes, which data parallelism takes of every parameter's, is
        the gradient of the whole batch.

        Returns:
            A scalar; (N,) with ``reduction="none"``, the value of each anchor of this process,
            whose sum over processes has the gradient of the whole batch.

        Raises:
            ValueError: wrong shapes or types, a missing index, ids outside a control's table, an
                anchor without a positive.
            NonFiniteLossError: an embedding or the loss is NaN or infinite.
        """
        return self._reduce(
            self.batch(
                *(x, y, index),
                positives=positives,
                labels=labels,
                same=same,
                ignore=ignore,
                keys=keys,
                targets=targets,
                repulsion=repulsion,
                negatives=negatives,
            )
        )

    def check_beside(self, beside: Beside) -> None:
        """Refuse targets, weights or own negatives that do not go with the loss's options."""

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
                if not torch.equal(*sides):
                    self._check_one_table()
                return self._side(index[0], "x2y"), self._side(index[1], "y2x")
            return self._side(index, "x2y")

    def _side(self, index: Tensor, direction: Direction) -> Tensor:
        return self.strength.side(index, direction)

    def _check_one_table(self) -> None:
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
        self._traps.before_step(self, modules, controls)
        if controls:
            advance(modules)
        self._traps.after_step(modules)
        if self.running is not None:
            self.running.commit(merge=self.ranks == "local")
        self._step.add_(1)

    def _check_unread(self) -> None:
        """Refuse what a compiled loss returned, whose graph reads no number."""
        value, self._unread = self._unread, None
        if value is not None and not bool(torch.isfinite(value).all()):
            raise NonFiniteLossError(
                "the compiled loss of the last batch is NaN or infinite: pass the batch to the "
                "loss itself, which names the rows"
            )

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        """Return for each direction the loss of each of its anchors: (N,) for x2y, (M,) for y2x.

        Args:
            batch: embeddings, ids and relation; its values and sums are those of all processes.
            directions: "x2y", "y2x", or both.
        """
        raise NotImplementedError

    def _inverse_size(self, batch: Batch, direction: Direction) -> Tensor:
        """Return the detached factor of each anchor's loss that cancels τ's effect on its size."""
        return batch.values(self.strength, direction).detach()

    def _check_strength(self) -> None:
        check_range(f"{type(self).__name__}'s temperature", self.strength, 0.0, strict=True)

    def batch(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        **relation: Unpack[RelationOptions],
    ) -> Batch:
        """Return a checked batch; arguments as those of a call."""
        given: dict[str, Any] = {n: value for n, value in relation.items() if value is not None}
        keys = given.pop("keys", None)
        beside = None if _BESIDE.isdisjoint(given) else taken(self, given) or None
        if keys is None:
            return self._batch(x, y, index, given, self.directions, beside)
        beside = beside or Beside()
        check_with_keys(self, beside)
        of_keys = keys.relation(len(x)) if isinstance(keys, Keys) else {}
        parts = [
            replace(
                self._batch(
                    *(anchors, candidates, ids, of_keys, "x2y"),
                    beside.of_keys(side, len(x)) or None,
                ),
                side=side,
            )
            for side, anchors, candidates, ids in met(self, keys, x, y, index, given)
        ]
        return replace(parts[0], other=parts[1] if len(parts) > 1 else None)

    def _batch(
        self,
        x: Tensor,
        y: Tensor | None,
        index: Ids | None,
        relation: Mapping[str, Any],
        directions: Directions,
        beside: Beside | None,
    ) -> Batch:
        """Return a checked batch whose anchors are those of these directions."""
        itself = y is None
        if itself and self._sided():
            raise ValueError(
                f"{type(self).__name__} keeps numbers of two sides, and one set of embeddings has "
                "one: use directions='x2y', or pass x and y"
            )
        y = x if y is None else y
        traced = torch.compiler.is_compiling() or transformed()
        _check_embeddings(x, y)
        rows, cols = x.shape[0], y.shape[0]
        several = grouped() and several_processes()
        ranks = self._ranks(rows, cols, x.device) if several else None
        if not rows and (ranks is None or not sum(ranks.rows)):
            raise ValueError(_SHAPES.format(tuple(x.shape), tuple(y.shape)))
        if itself and directions == "y2x":
            raise ValueError("one set of embeddings has no direction y2x: use directions='x2y'")
        related = relate(
            rows,
            cols,
            x.device,
            **relation,
            directions=directions,
            itself=itself,
            ranks=ranks,
            targeted=beside is not None and beside.whole,
        )
        if related.labels is not None:
            self._check_labels(related, twice=not itself and _one_memory(x, y))
        ids = self._ids(index, rows, cols, x.device)
        if isinstance(index, (tuple, list)):
            self._check_ids_of_pairs(ids, related)
        given: dict[Direction, Tensor] = {"x2y": x, "y2x": y}
        whole = held(self.tile, rows, cols)
        trusting = (
            self.normalize
            and related.single
            and ranks is None
            and beside is None
            and rows == cols > 1  # a row without negatives may be left out of the loss
            and whole
            and not traced
            and (x.device.type in FREE or waiting() is None)  # no second try later
        )
        if self.normalize and not trusting:
            x, y = within_range(x), within_range(y)
        changed = x is not given["x2y"] or y is not given["y2x"]
        batch = Batch(
            x,
            y,
            ids,
            related,
            self.tile,
            cosine=self.normalize,
            views=given if changed else None,
            ranks=ranks,
            named=index is not None,
            exchange="ring" if self.ranks == "ring" else "gather",
            trusting=trusting,
            several=several,
            held=whole,
        )
        if beside is None:
            return batch
        sides: Directions = "x2y" if itself else directions
        hard = hard_negatives(beside, {"x2y": x, "y2x": y}, directions=sides, cosine=self.normalize)
        return replace(batch, targets=beside.targets, repulsion=beside.repulsion, hard=hard)

    def _check_ids_of_pairs(self, ids: dict[Direction, Tensor], relation: Relation) -> None:
        """Refuse ids of two kinds where a control has numbers of one kind only."""
        rows, cols = ids["x2y"], ids["y2x"]
        if relation.labels is None and not relation.itself:
            cols = cols[relation.positive]
        if torch.equal(rows, cols):
            return
        if relation.itself:
            raise ValueError("one set of embeddings has one id for each row: pass index= as (N,)")
        if self.directions == "both" or self.strength.granularity == "pair":
            self._check_one_table()

    def _check_labels(self, relation: Relation, *, twice: bool) -> None:
        """Refuse labels where each anchor or each pair must be told apart."""
        if self.strength.granularity == "pair":
            raise ValueError(
                f"{self.strength!r} gives each pair a value of its own and needs one positive for "
                "each anchor: pass labels as same=, which leaves the further positives out"
            )
        if twice and not self._ignores_itself(relation):
            raise ValueError(
                "x and y are one tensor, and with labels= each row would be its own positive: pass "
                "it once, loss_fn(z, labels=...), or set the diagonal of ignore="
            )
        if self.reduction == "none" and self.directions == "both" and not relation.paired:
            raise ValueError(
                "reduction='none' gives a value for each pair, but these labels make no pairs of x "
                "and y: use directions='x2y' or 'y2x', or another reduction"
            )

    @staticmethod
    def _ignores_itself(relation: Relation) -> bool:
        rows = torch.arange(len(relation.positive), device=relation.positive.device)
        return relation.ignore is not None and bool(relation.ignore[rows, relation.columns].all())

    def _sided(self) -> bool:
        """Return whether both directions are in use and some part has a state for each side."""
        return self.directions == "both" and any(
            isinstance(part, (SideTables, Individual, TempNet, TaU)) for part in self.modules()
        )

    def _ranks(self, rows: int, cols: int, device: torch.device) -> Ranks | None:
        if self.ranks == "local" or not several_processes():
            return None
        return Ranks(rows, cols, device)

    def _ids(
        self, index: Ids | None, rows: int, cols: int, device: torch.device
    ) -> dict[Direction, Tensor]:
        if index is None:
            for name, part in self.named_children():
                if isinstance(part, Control) and part.needs_index:
                    name = self.strength_name if name == "strength" else name
                    raise ValueError(
                        f"{type(self).__name__}'s {name} is per sample ({part!r}): pass "
                        "index=, the data set positions of this batch's pairs"
                    )
            positions = torch.arange(max(rows, cols), device=device)
            if rows == cols:
                return {"x2y": positions, "y2x": positions}
            return {"x2y": positions[:rows], "y2x": positions[:cols]}
        pair = isinstance(index, (tuple, list)) and len(index) == 2
        sides = index if pair else (index,)
        checked = [check_index(side) for side in sides]  # type: ignore[arg-type]
        checked = checked if pair else checked * 2
        if len(checked) != 2 or (len(checked[0]), len(checked[1])) != (rows, cols):
            lengths = [len(side) for side in checked]
            raise ValueError(
                f"index must name every row, {rows} of x and {cols} of y, got {lengths}"
            )
        first, second = checked
        of_x = first.to(device)
        return {"x2y": of_x, "y2x": of_x if second is first else second.to(device)}

    def _reduce(self, batch: Batch) -> Tensor:
        """Return the loss of a batch; one that is refused leaves no note for the next step."""
        free = batch.x.device.type in FREE
        try:
            if free:
                loss = self._reduced(batch)
            else:
                with together():
                    loss = self._reduced(batch)
        except NonFiniteLossError:
            if any(part.trusting for part in batch.parts):
                return self._reduce(batch.each(Batch.scaled))
            raise
        questions = None if free else waiting()
        if questions is None:
            batch.leave_notes()
        else:
            questions.after(batch.leave_notes)
        return loss

    def _reduced(self, batch: Batch) -> Tensor:
        losses = parameters.sides(self, batch) if batch.several else self.sides(batch)
        compiled = torch.compiler.is_compiling()
        if not compiled:
            self._watch(batch)
        if batch.ranks is None:
            if not compiled and (self.reduction == "none" or isinstance(self.reduction, DRO)):
                self._check_finite(losses, batch)
            if self.reduction == "none":
                whole = losses[0]
            else:
                price = None
                if isinstance(self.reduction, DRO):
                    price = self.reduction.price(losses, batch)
                    losses = self.reduction.weighted(losses, batch)
                means = [part.sum() if self.reduction == "sum" else part.mean() for part in losses]
                whole = means[0] if len(means) == 1 else means[0] + means[1]
                whole = whole if price is None else whole + price
            if compiled:
                self.__dict__["_unread"] = whole.detach()
            elif self.reduction != "none":
                self._check_whole(whole, losses, batch)
            return whole
        facts = [
            torch.stack([part.detach().sum(), part.new_tensor(float(len(part))), _failed(part)])
            for part in losses
        ]
        sums, anchors, failures = batch.ranks.sum_(torch.stack(facts)).T

        def then(failed: bool) -> None:
            if failed:
                self._check_finite(losses, batch)
                raise NonFiniteLossError("the loss of another process is NaN or infinite")

        ask(failures.any(), then)
        if self.reduction == "none":
            return losses[0]
        price = None
        if isinstance(self.reduction, DRO):
            price = self.reduction.price(losses, batch)
            losses = self.reduction.weighted(losses, batch)
            sums = batch.ranks.sum_(torch.stack([part.detach().sum() for part in losses]))
        of_all, mine = list(sums), [part.sum() for part in losses]
        if self.reduction != "sum":
            of_all = [part / count for part, count in zip(of_all, anchors, strict=True)]
            mine = [part / count for part, count in zip(mine, anchors, strict=True)]
        value, part = (side[0] if len(side) == 1 else side[0] + side[1] for side in (of_all, mine))
        part = part * batch.ranks.size
        loss: Tensor = part - part.detach() + value
        return loss if price is None else loss + price

    def _watch(self, batch: Batch) -> None:
        """Notice what the loop around the loss leaves out."""
        learning = torch.is_grad_enabled()
        if not self.training and not learning:
            if batch.named and looks_up(self):
                self._traps.evaluated(self)
        elif self.training and learning:
            self._traps.batches += 1
            if self._traps.batches in FOLLOWED:
                self._traps.trained(self)
            strength = self.strength
            rho = 0.0 if strength.learns == "nothing" else strength.rho or getattr(self, "rho", 0.0)
            if rho:
                self._traps.reached(self, rho, batch)

    def per_anchor(self, batch: Batch) -> Tensor:
        """Return all of :meth:`sides`, one after the other."""
        return torch.cat(self.sides(batch))

    def sides(self, batch: Batch) -> list[Tensor]:
        """Return the loss of each anchor, weighted, with its force.

        Returns:
            One vector (N,), for each pair the mean of its two anchors; or, where labels make no
            pairs, half the losses of the anchors of x and half those of y.
        """
        kind = batch.x.device.type
        if torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                return ContrastiveLoss.sides(self, batch)
        directions: list[Direction] = ["x2y", "y2x"]
        if batch.relation.itself or batch.side is not None:
            directions = ["x2y"]
        elif self.directions != "both":
            directions = [self.directions]
        losses = list(self.anchor_losses(batch, directions))
        if batch.other is not None:
            losses += self.anchor_losses(batch.other, directions)
        self._note(batch, directions[0])
        if self.running is not None or self.weight is not None:
            losses = self._sized(batch, losses, directions)
        if len(losses) == 2 and not batch.relation.paired:
            pairs = zip(losses, directions, strict=True)
            return [batch.anchored(loss, d) / 2 for loss, d in pairs]
        if "y2x" in directions and batch.relation.labels is None:
            losses[-1] = batch.relation.of_rows(losses[-1])
        return losses if len(losses) == 1 else [(losses[0] + losses[1]) / 2]

    def _sized(
        self, batch: Batch, losses: list[Tensor], directions: Sequence[Direction]
    ) -> list[Tensor]:
        """Return the losses with the size of the force, and the weights, that were asked for."""
        anchors = [(part, d) for part in batch.parts for d in directions]
        if self.running is not None:
            sizes = [self._inverse_size(part, d).expand(len(part.ids[d])) for part, d in anchors]
            means = [
                part.mean(part.anchored(size, d))
                for size, (part, d) in zip(sizes, anchors, strict=True)
            ]
            seen = torch.stack(means).mean()
            if self.training and torch.is_grad_enabled():
                batch.notes.append(partial(self.running.see, seen))
            mean = self.running(seen).to(batch.dtype)
            losses = [loss * (size / mean) for loss, size in zip(losses, sizes, strict=True)]
        if self.weight is not None:
            losses = [
                loss * part.values(self.weight, d)
                for loss, (part, d) in zip(losses, anchors, strict=True)
            ]
        return losses

    def _note(self, batch: Batch, direction: Direction) -> None:
        tau, ids = batch.strength(self.strength, direction), batch.ids[direction]
        if not isinstance(tau, Tensor):
            with torch.no_grad():
                tau = batch.at_positives(tau, direction)
        # a tensor of a batch is no part of the module, and its own way to set one takes long
        self.__dict__["last_tau"] = (ids, tau.detach().expand(ids.shape[0]))

    def _check_whole(self, whole: Tensor, losses: Sequence[Tensor], batch: Batch) -> None:
        """Refuse a loss that is not finite, by one read, or one with others of the step."""
        if whole.device.type not in FREE:

            def then(finite: bool) -> None:
                if not finite:
                    self._check_finite(losses, batch)

            ask(torch.isfinite(whole.detach()), then)
        elif not math.isfinite(whole.item()):
            self._check_finite(losses, batch)

    def _check_finite(self, losses: Sequence[Tensor], batch: Batch) -> None:
        if all(bool(torch.isfinite(part.detach()).all()) for part in losses):
            return
        for name, side, of_side in _named_sides(batch):
            check_rows(name, side, of_side)
        bad, ids = ~torch.isfinite(losses[0].detach()), batch.ids["x2y"]
        if batch.relation.labels is not None and self.directions == "y2x":
            ids = batch.ids["y2x"]
        elif not bool(bad.any()):
            bad, ids = ~torch.isfinite(losses[1].detach()), batch.anchored(batch.ids["y2x"], "y2x")
        rows = bad.nonzero().squeeze(1)
        assert self.last_tau is not None
        tau = self.last_tau[1]
        raise NonFiniteLossError(
            f"the loss of {len(rows)} of {len(bad)} anchors is NaN or infinite: rows "
            f"{few(rows.tolist())}, data set ids {few(ids[rows].tolist())}, {self.strength_name} "
            f"in [{float(tau.min()):g}, {float(tau.max()):g}]"
        )


def check_rows(name: str, side: Tensor, ids: Tensor | None = None) -> None:
    """Check that all rows (N, d) are finite, and name those that are not."""
    if bool(torch.isfinite(side.detach()).all()):
        return
    rows = (~torch.isfinite(side.detach())).any(1).nonzero().squeeze(1)
    known = "" if ids is None else f"; data set ids {few(ids.to(rows.device)[rows].tolist())}"
    raise NonFiniteLossError(
        f"{name} has NaN or infinite embeddings in {len(rows)} of {len(side)} rows: "
        f"{few(rows.tolist())}{known}"
    )


def _named_sides(batch: Batch) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the name, the embeddings and the ids of each side of a batch."""
    for part in batch.parts:
        names = ("x", "y") if part.side is None else ("x", "keys.y")
        if part.side == "y2x":
            names = ("y", "keys.x")
        yield names[0], part.x, part.ids["x2y"]
        yield names[1], part.y, part.ids["y2x"]
        for d, hard in part.hard.items():
            name = "y" if d == "y2x" else names[0]
            yield f"negatives= of {name}", hard.vectors.flatten(1), part.ids[d]


def _failed(part: Tensor) -> Tensor:
    """Return () the number of values that are NaN or infinite."""
    return (~torch.isfinite(part.detach())).sum().to(part)


def _check_embeddings(x: Tensor, y: Tensor) -> None:
    for name, side in (("x", x), ("y", y)):
        if not isinstance(side, Tensor):
            raise TypeError(f"{name} must be a tensor (N, d), got {type(side).__name__}")
        if transformed():
            refuse_vmap(name, side)
        if side.layout is not torch.strided:
            raise ValueError(f"{name} must be a dense tensor, got {side.layout}")
        if not side.is_floating_point():
            raise ValueError(f"{name} must hold floating numbers, got {side.dtype}")
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1] or not x.shape[1]:
        raise ValueError(_SHAPES.format(tuple(x.shape), tuple(y.shape)))
    if x.device != y.device:
        raise ValueError(f"x is on {x.device} and y on {y.device}: move one of them")


def _one_memory(x: Tensor, y: Tensor) -> bool:
    """Return whether these are one tensor, or two that lie in the same place."""
    if y is x or not x.numel() or torch.compiler.is_compiling() or transformed():
        return y is x
    return (x.data_ptr(), x.shape, x.stride()) == (y.data_ptr(), y.shape, y.stride())


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}")
    return value
