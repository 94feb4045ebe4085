"""One batch as a loss sees it: values for its anchors, and reductions over its pairs.

Shapes: N rows (anchors of x), M columns (anchors of y), of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tauten.controls import Anchors, Control, Direction
from tauten.controls.anchors import DIRECTIONS
from tauten.losses.batch_fields import BatchFields
from tauten.losses.cached import Cached
from tauten.losses.sums import mean_of, sum_and_count
from tauten.pairwise import Number, One, PairMask, PairNumber, Reduction, Scaled, reciprocal
from tauten.pairwise.both import reduce_both
from tauten.pairwise.engine import reduce_pairs
from tauten.pairwise.exchange import gather_columns
from tauten.pairwise.objectives import Objective
from tauten.pairwise.reduction import Along, compute_dtype
from tauten.pairwise.units import Units, unit_rows
from tauten.pairwise.whole import reduce_whole
from tauten.relations import PairWeights
from tauten.terms.uniformity import separation

#: the side of S on which the anchors of a direction lie
ALONG: Mapping[Direction, Along] = {"x2y": "rows", "y2x": "cols"}


@dataclass(frozen=True)
class Batch(BatchFields):
    """One batch: values of controls for its anchors, and reductions over its pair matrix."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", compute_dtype(self.x, self.y))

    @property
    def parts(self) -> list[Batch]:
        """This batch, and that of the other side where it has keys of its own."""
        return [self] if self.other is None else [self, self.other]

    def leave_notes(self) -> None:
        """Leave what the batch has for the next step."""
        for part in self.parts:
            for note in part.notes:
                note()

    def each(self, change: Callable[[Batch], Batch]) -> Batch:
        """Return the batch with each of its parts changed."""
        first, *others = map(change, self.parts)
        return replace(first, other=others[0] if others else None)

    def strength(self, control: Control, direction: Direction) -> Number:
        """Return the control's values for the anchors of that direction.

        Returns:
            (n,), or () if all anchors share it; or a number for each pair.
        """
        known = self._strengths.get((id(control), direction))
        if known is None:
            known = self._strength(control, direction)
            alike: Sequence[Direction] = DIRECTIONS if self._alike(control) else (direction,)
            self._strengths.update({(id(control), d): known for d in alike})
        return known

    def _strength(self, control: Control, direction: Direction) -> Number:
        """Return the values, computed anew."""
        if control.fixed is not None:
            return self._filled(control.fixed)
        values = control.on(self._anchors("x2y" if control.shared else direction))
        if isinstance(values, Tensor):
            values = values.to(self.x.device, self.dtype)
            if control.shared:
                return values.reshape(())
            if values.shape != self.ids[direction].shape:
                values = values.expand(self.ids[direction].shape[0])
        return values

    def _alike(self, control: Control) -> bool:
        """Return whether both directions have the same values."""
        if control.fixed is not None or control.shared:
            return True
        alike = control.granularity == "anchor" and self.ids["x2y"] is self.ids["y2x"]
        return alike and control.by_id

    def scales(
        self, control: Control, directions: Sequence[Direction], *, detached: bool = False
    ) -> list[Number]:
        """Return 1/τ of the anchors of each direction; the same object where they share it.

        Args:
            control: the control of τ.
            directions: directions of the anchors.
            detached: whether τ gets no gradient through them.
        """
        scales: list[Number] = []
        values = [self.strength(control, d) for d in directions]
        for value in values:
            if scales and value is values[0]:
                scales.append(scales[0])
            elif isinstance(value, Tensor):
                scales.append((value.detach() if detached else value).reciprocal())
            else:
                scales.append(reciprocal(value))
        return scales

    def values(self, control: Control, direction: Direction) -> Tensor:
        """Return :meth:`strength` of a control that has no values for pairs."""
        values = self.strength(control, direction)
        assert isinstance(values, Tensor)
        return values

    def _anchors(self, direction: Direction) -> Anchors:
        other: Direction = "y2x" if direction == "x2y" else "x2y"
        return Anchors(
            direction=self.known_as(direction),
            index=self.ids[direction],
            keys=self.ids[other],
            embeddings=self.sides[direction],
            alignment=lambda: self.mean(self.anchored(self.positives("x2y").detach(), "x2y")),
            separation=lambda t: separation(self.x, self.ranks, t),
            note=self.notes.append,
            number=lambda values: self._on_axis(values, direction),
            key_number=lambda values: self._on_axis(values, other),
            dtype=self.dtype,
            turned=self.side == "y2x",
        )

    def known_as(self, direction: Direction) -> Direction:
        """Return the direction by which controls know the anchors of that one."""
        return self.side or direction

    def number(self, values: Number, direction: Direction) -> Number:
        """Return values of anchors as a number that broadcasts against S: (N, 1),
        (1, M) or (1, 1).
        """
        return values if isinstance(values, PairNumber) else self._on_axis(values, direction)

    def numbers(self, values: Sequence[Tensor], direction: Direction) -> list[Tensor]:
        """Return :meth:`number` of vectors (n,) of one type, which leave by one message."""
        if self.ranks is None or direction == "x2y":
            return [self._on_axis(part, direction) for part in values]
        whole = self._on_axis(torch.stack(list(values), dim=1), direction)
        return [part.contiguous() for part in whole.unbind(-1)]

    def _on_axis(self, values: Tensor, direction: Direction) -> Tensor:
        """Return (), or (n, ...) of rows or (m, ...) of columns,
        shaped for S with the columns of all.
        """
        if values.dim() == 0:
            return values.view(1, 1)
        if direction == "x2y":
            return values.unsqueeze(1)
        if self.ranks is not None:
            block = self.y if self.exchange == "gather" and self.tile != "dense" else None
            values = gather_columns(values, self.ranks, block)
        return values.unsqueeze(0)

    def mean(self, values: Tensor) -> Tensor:
        """Return () mean over the anchors of all processes, without a gradient over processes."""
        if self.ranks is None:
            return values.mean()
        return mean_of(self.ranks.sum_(sum_and_count([values])))

    @torch.no_grad()
    def relative_exp(self, logs: Tensor, direction: Direction | None = None) -> Tensor:
        """Return exp(logs) over its mean over all processes, (n,), detached.

        With a direction the mean is over its anchors alone.
        """
        logs = logs.detach()  # forward derivatives pass through no_grad
        of_mean = logs if direction is None else self.anchored(logs, direction)
        peak = torch.cat([of_mean, logs.new_full((1,), -torch.inf)]).max()
        if self.ranks is not None:
            peak = self.ranks.max_(peak)
        # what is no anchor may lie above the peak
        raised = (logs - peak).clamp(max=0).exp()
        return raised / self.mean((of_mean - peak).exp())

    def at_positives(self, values: Number, direction: Direction) -> Tensor:
        """Return values of anchors, or of pairs at each anchor's positive: (n,) or ()."""
        if isinstance(values, Tensor):
            return values
        per_row = values.at(self.positives("x2y"), self.relation.columns)
        return self.of(per_row, direction)

    def positives(self, direction: Direction) -> Tensor:
        """Return the mean similarity of the anchors of that direction to their positives.

        Raises:
            ValueError: nobody has one, because targets say all.
        """
        if self.relation.free:
            raise ValueError(
                "this control follows the similarity of positives, and targets= alone name none: "
                "pass positives= or labels= too, or take another control"
            )
        if not self._positives:
            self._positives.update(self._of_positives())
        return self._positives[direction]

    def _of_positives(self) -> dict[Direction, Tensor]:
        if self.relation.labels is not None and self.relation.ignore is not None:
            sums, counts = self._sums_over_positives
            return {d: sums[d] / counts[d].clamp(min=1) for d in DIRECTIONS}
        units = self.units()
        if units is not None:
            if self.relation.labels is None and self.relation.diagonal:
                scores, count = units.scores, units.y.shape[0]
                return {"x2y": scores, "y2x": self.relation.on_columns(scores, count)}
            rows, cols = self.relation.positives(units.x, units.y, cosine=False)
        else:
            rows, cols = self.relation.positives(self.x, self.y, cosine=self.cosine)
        return {"x2y": rows, "y2x": cols}

    def positive_counts(self, direction: Direction) -> Tensor:
        """Return the number of positives of each anchor of that direction, (n,) or ()."""
        if self.relation.labels is not None and self.relation.ignore is not None:
            return self._sums_over_positives[1][direction]
        counts = self._counts[direction]
        return (
            self._filled(counts)
            if isinstance(counts, int)
            else counts.to(self.x.device, self.dtype)
        )

    @Cached
    def _counts(self) -> dict[Direction, Tensor | int]:
        return dict(zip(DIRECTIONS, self.relation.counts(), strict=True))

    @Cached
    def _sums_over_positives(self) -> tuple[dict[Direction, Tensor], dict[Direction, Tensor]]:
        """Similarity and number of the positives that ``ignore`` leaves, pair by pair."""
        one = torch.ones(1, 1, device=self.x.device, dtype=self.dtype)
        sums = self.over_positives(
            *(Reduction(along(d), "sum", Scaled(), (one,)) for d in DIRECTIONS),
            *(Reduction(along(d), "sum", One(), ()) for d in DIRECTIONS),
        )
        return (
            dict(zip(DIRECTIONS, sums[:2], strict=True)),
            dict(zip(DIRECTIONS, (count.detach() for count in sums[2:]), strict=True)),
        )

    def paired(self, direction: Direction) -> Tensor | None:
        """Return (n,) bool, which rows of that side have a positive, so that they are anchors.

        None if all have; the others are candidates alone.
        """
        relation = self.relation
        return relation.rows_paired if direction == "x2y" else relation.columns_paired

    def anchored(self, values: Tensor, direction: Direction) -> Tensor:
        """Return the values, (n,), of those that are anchors."""
        paired = self.paired(direction)
        return values if paired is None else values[paired]

    def empty(self, log_sum: Tensor, direction: Direction) -> Tensor | None:
        """Return (n,) bool, anchors without a negative and rows that are no anchors.

        None if there are none.

        Args:
            log_sum: (n,) log-sum-exp over the negatives.
            direction: direction of the anchors.
        """
        single = self.relation.single and self.repulsion is None and self.paired(direction) is None
        if single and self.candidates(direction) > 1:
            return None
        return self.without_anchor(torch.isneginf(log_sum.detach()), direction)

    def without_anchor(self, empty: Tensor, direction: Direction) -> Tensor:
        """Return (n,) bool, ``empty`` or no anchor."""
        paired = self.paired(direction)
        return empty if paired is None else empty | ~paired

    def of(self, per_row: Tensor, direction: Direction) -> Tensor:
        """Return numbers of rows, (N,), as numbers of the anchors of that direction."""
        per_row = per_row.to(self.x.device, self.dtype)
        return per_row if direction == "x2y" else self.relation.on_columns(per_row, len(self.y))

    @Cached
    def target_number(self) -> PairNumber:
        """The log of the weight of each pair in the targets."""
        return self._weights("targets", self.targets, log=True)

    @Cached
    def target_weight(self) -> PairNumber:
        """The weight of each pair in the targets."""
        return self._weights("targets", self.targets, log=False)

    @Cached
    def repulsion_number(self) -> PairNumber:
        """The log of the weight of each negative."""
        return self._weights("repulsion", self.repulsion, log=True)

    def _weights(self, name: str, weights: PairWeights | None, *, log: bool) -> PairNumber:
        assert weights is not None
        like = torch.empty(0, dtype=self.dtype, device=self.x.device)
        return weights.number(name, (len(self.x), len(self.y)), like, self.ranks, log=log)

    def reduce(self, *reductions: Reduction, own: bool) -> tuple[Tensor, ...]:
        """Return the reductions over S without ignored pairs, and without positives if ``own``."""
        return self._reduce(self.relation.mask(own=own), *reductions)

    def both(
        self, objective: Objective, directions: Sequence[Direction], *numbers: Sequence[Number]
    ) -> Tensor | None:
        """Return (2, N) what an objective makes of S for the anchors of both sides, in one step.

        None where that is not all there is to do: another relation than pairs and a few of their
        others that are no negatives, several processes, a number for each pair, one direction, or
        unit rows that something else has asked for already.

        Args:
            objective: in closed form.
            directions: directions of the anchors.
            numbers: of the objective, each those of the anchors of x and of y, one object if equal.
        """
        pairs = self.cosine and self.only_pairs and self.relation.diagonal
        if not pairs or len(directions) < 2 or self._units:
            return None
        given = []
        for of_x, of_y in numbers:
            if isinstance(of_x, PairNumber) or isinstance(of_y, PairNumber):
                return None
            given.append(of_x if of_x is of_y else torch.stack((of_x, of_y)))
        out = self.relation.agreeing
        return reduce_both(self.x, self.y, objective, *given, out=out, trusting=self.trusting)

    def units(self) -> Units | None:
        """Return both sides with rows of length 1; None where S is not held, or not of cosines."""
        if not self._units:
            fit = self.held and self.cosine and self.ranks is None
            fit = fit and self.x.shape[0] <= self.y.shape[0]
            self._units.append(unit_rows(self.x, self.y, trusting=self.trusting) if fit else None)
        return self._units[0]

    def _reduce(self, mask: PairMask | None, *reductions: Reduction) -> tuple[Tensor, ...]:
        units = self.units()
        if units is not None:
            return reduce_whole(units.x, units.y, reductions, mask, units=units)
        return reduce_pairs(
            self.x,
            self.y,
            reductions,
            mask,
            tile=self.tile,
            cosine=self.cosine,
            ranks=self.ranks,
            exchange=self.exchange,
        )

    def over_positives(self, *reductions: Reduction) -> tuple[Tensor, ...]:
        """Return the reductions over the positives alone, where ``labels`` make them."""
        return self._reduce(self.relation.mask(own=False, only_positives=True), *reductions)

    def negatives(self, direction: Direction) -> Tensor:
        """Return the number of negatives of each anchor of a direction: (n,), or () if equal.

        Own negatives are counted too.
        """
        if self.relation.single:
            count = float(self.candidates(direction) - 1)
            number = self._filled(count)
        else:
            number = self._negatives[direction]
        return number + self.hard[direction].count if direction in self.hard else number

    def log_negatives(self, direction: Direction) -> Tensor:
        """Return the log of the number of negatives of each anchor, or of 1: (n,), or ()."""
        if not self.relation.single or direction in self.hard:
            return self.negatives(direction).clamp(min=1).log()
        count = float(max(self.candidates(direction) - 1, 1))
        if count not in self._logs:
            self._logs[count] = self._filled(count).log()
        return self._logs[count]

    def _filled(self, number: float) -> Tensor:
        """Return () a number, made on the device without a copy to it."""
        return torch.full((), number, device=self.x.device, dtype=self.dtype)

    def at_hard(self, number: Number, direction: Direction) -> Tensor:
        """Return a number of S, from :meth:`number`, at the own negatives: (n, K), or (n or 1, 1).

        Raises:
            ValueError: it differs by candidate, and own negatives are none of the data set.
        """
        if isinstance(number, PairNumber):
            parts = [self.at_hard(part, direction) for part in number.numbers]
            return number.rule(self.hard[direction].similarity, *parts)
        aside = 1 if direction == "x2y" else 0
        if number.dim() > 2 or number.shape[aside] != 1:
            raise ValueError(
                "a control of pairs that looks up both samples has no value for negatives=, which "
                "have no positions in the data set: take a control of anchors, or one that follows "
                "the similarity"
            )
        if direction == "x2y":
            return number
        number = number.T
        return number[self.ranks.own] if self.ranks is not None and len(number) > 1 else number

    @Cached
    def _negatives(self) -> dict[Direction, Tensor]:
        out = self.relation.agreeing
        if out is not None:
            rows = self.x.new_full(self.x.shape[:1], float(len(self.x) - 1), dtype=self.dtype)
            rows.index_add_(0, out // len(self.x), rows.new_full(out.shape, -1.0))
            return {"x2y": rows, "y2x": rows}
        reductions = [Reduction(along(d), "sum", One(), ()) for d in DIRECTIONS]
        with torch.no_grad():
            if self.relation.symmetric:
                (rows,) = (cols,) = self.reduce(reductions[0], own=True)
            else:
                rows, cols = self.reduce(*reductions, own=True)
        return {"x2y": rows, "y2x": cols}

    def candidates(self, direction: Direction) -> int:
        """Return the number of candidates of an anchor of that direction, its positive included.

        Own negatives are not counted.
        """
        if self.ranks is not None:
            count = sum(self.ranks.cols if direction == "x2y" else self.ranks.rows)
        else:
            count = (self.y if direction == "x2y" else self.x).shape[0]
        return count - 1 if self.relation.itself else count


def along(direction: Direction) -> Along:
    """Return the side of S on which the anchors of that direction lie."""
    return ALONG[direction]


def of_pairs(losses: Sequence[Tensor]) -> list[Tensor]:
    """Return losses (n,) as they are, and those of both anchors of each pair, (2, N), as means."""
    return [part.mean(0) if part.dim() == 2 else part for part in losses]
