"""Base of all contrastive losses: from the embeddings of a call to the loss of their batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tauten.candidates.keys import Keys
from tauten.candidates.own import Negatives
from tauten.controls import Control, Direction
from tauten.ids import check_index
from tauten.losses import over_processes, parameters
from tauten.losses.batch import Batch, of_pairs
from tauten.losses.beside import KEYWORDS, Beside, check_with_keys, hard_negatives, taken
from tauten.losses.dro import DRO
from tauten.losses.equalized_force import sized
from tauten.losses.finite import NonFiniteLossError, check_losses
from tauten.losses.keyed import met
from tauten.losses.module import LossModule
from tauten.losses.options import Directions, RelationOptions
from tauten.losses.pooled import meet
from tauten.losses.told_apart import check_ids_of_pairs, check_labels
from tauten.losses.traps import FOLLOWED, looks_up
from tauten.modules import refuse_vmap
from tauten.pairwise.exchange import Ranks, grouped, several_processes
from tauten.pairwise.kinds import Kind
from tauten.pairwise.once import transformed
from tauten.pairwise.sides import within_range
from tauten.pairwise.whole import held
from tauten.reads import FREE, ask, together, waiting
from tauten.relations import Ids, Relation, Weights, relate
from tauten.relations.checks import ids_of_columns

if TYPE_CHECKING:
    from typing_extensions import Unpack

_BESIDE = frozenset(KEYWORDS)
_SHAPES = "x and y must be (N, d) and (M, d) with the same d > 0 and N > 0, got {} and {}"


class ContrastiveLoss(LossModule):
    """Base of the losses between x and y; see :class:`InfoNCE` for the arguments.

    A subclass gives :meth:`anchor_losses`. What it can do beside that it declares with it: in
    ``forces`` what ``force=`` may be, in ``composition`` which controls may drive it. Where it
    declares nothing, forces other than the plain one and temperatures that the robust objective
    teaches are refused, also if the class above has them. For ``force="equalized"``
    :meth:`_inverse_size` says what divides the size of the force out.
    """

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

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        """Return for each direction the loss of each of its anchors: (N,) for x2y, (M,) for y2x.

        Or one tensor (2, N) of both directions, from :meth:`Batch.both`.

        Args:
            batch: embeddings, ids and relation; its values and sums are those of all processes.
            directions: "x2y", "y2x", or both.
        """
        raise NotImplementedError

    def _inverse_size(self, batch: Batch, direction: Direction) -> Tensor:
        """Return the detached factor of each anchor's loss that cancels τ's effect on its size."""
        return batch.values(self.strength, direction).detach()

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
                    keyed=True,
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
        keyed: bool = False,
    ) -> Batch:
        """Return a checked batch whose anchors are those of these directions."""
        itself = y is None
        if itself and self.sided():
            raise ValueError(
                f"{type(self).__name__} keeps numbers of two sides, and one set of embeddings has "
                "one: use directions='x2y', or pass x and y"
            )
        y = x if y is None else y
        traced = torch.compiler.is_compiling() or transformed()
        _check_embeddings(x, y)
        rows, cols = x.shape[0], y.shape[0]
        ranks, shard, several = None, None, grouped() and several_processes()
        if several:
            plain = beside is None and not keyed
            x, y, index, relation, ranks, shard = meet(self, x, y, index, relation, plain=plain)
            rows, cols = x.shape[0], y.shape[0]
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
            check_ids_of_pairs(self, ids, related)
        given: dict[Direction, Tensor] = {"x2y": x, "y2x": y}
        whole = held(self.tile, rows, cols, x.device)
        only_pairs = (
            (related.single or related.agreeing is not None)
            and ranks is None
            and beside is None
            and rows == cols > 1  # a row without negatives may be left out of the loss
            and whole
            and not traced
        )
        # later there is no second try
        now = x.device.type in FREE or waiting() is None
        trusting = self.normalize and only_pairs and now
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
            only_pairs=only_pairs,
            trusting=trusting,
            several=several,
            held=whole,
            shard=shard,
        )
        if beside is None:
            return batch
        sides: Directions = "x2y" if itself else directions
        hard = hard_negatives(beside, {"x2y": x, "y2x": y}, directions=sides, cosine=self.normalize)
        return replace(batch, targets=beside.targets, repulsion=beside.repulsion, hard=hard)

    def _check_labels(self, relation: Relation, *, twice: bool) -> None:
        """Refuse labels where each anchor or each pair must be told apart."""
        check_labels(self, relation, twice=twice)

    def _ranks(
        self,
        rows: int,
        cols: int,
        device: torch.device,
        relation: Mapping[str, Any] | None = None,
        kind: Kind | None = None,
    ) -> Ranks | None:
        if self.ranks == "local" or not several_processes():
            return None
        relation = relation or {}
        ids = ids_of_columns(relation.get("same", ()), relation.get("labels"), cols)
        return Ranks(rows, cols, device, ids, self._room, kind=kind)

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
        if self.reduction != "mean":
            losses = of_pairs(losses)
        compiled = torch.compiler.is_compiling()
        if not compiled:
            self._watch(batch)
        if batch.ranks is not None:
            return over_processes.reduced(self, losses, batch, batch.ranks)
        if not compiled and (self.reduction == "none" or isinstance(self.reduction, DRO)):
            check_losses(self, losses, batch)
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
        """Return all of :meth:`sides`, of pairs or anchors, one after the other."""
        return torch.cat(of_pairs(self.sides(batch)))

    def sides(self, batch: Batch) -> list[Tensor]:
        """Return the loss of each anchor, weighted, with its force.

        Returns:
            One vector (N,), for each pair the mean of its two anchors, or (2, N) these two; or,
            where labels make no pairs, half the losses of the anchors of x and half those of y.
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
        plain = self.running is None and self.weight is None
        if losses[0].dim() == 2:
            if plain:
                return losses
            losses = list(losses[0].unbind())
        if not plain:
            losses = sized(self, batch, losses, directions)
        if len(losses) == 2 and not batch.relation.paired:
            pairs = zip(losses, directions, strict=True)
            return [batch.anchored(loss, d) / 2 for loss, d in pairs]
        if "y2x" in directions and batch.relation.labels is None:
            losses[-1] = batch.relation.of_rows(losses[-1])
        return losses if len(losses) == 1 else [(losses[0] + losses[1]) / 2]

    def _note(self, batch: Batch, direction: Direction) -> None:
        tau, ids = batch.strength(self.strength, direction), batch.ids[direction]
        if not isinstance(tau, Tensor):
            with torch.no_grad():
                tau = batch.at_positives(tau, direction)
        if batch.shard is not None:
            tau, ids = tau.expand(len(ids))[batch.shard], ids[batch.shard]
        # a tensor of a batch is no part of the module, and its own way to set one takes long
        self.__dict__["last_tau"] = (ids, tau.detach().expand(ids.shape[0]))

    def _check_whole(self, whole: Tensor, losses: Sequence[Tensor], batch: Batch) -> None:
        """Refuse a loss that is not finite, by one read, or one with others of the step."""
        if whole.device.type not in FREE:

            def then(finite: bool) -> None:
                if not finite:
                    check_losses(self, losses, batch)

            ask(torch.isfinite(whole.detach()), then)
        elif not math.isfinite(whole.item()):
            check_losses(self, losses, batch)


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
