"""Symmetric multi-similarity loss: the gap of each pair follows its graded relevancy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import torch
from torch import Tensor

from tauten.checks import finite, two
from tauten.controls import Control, Direction
from tauten.losses.batch import Batch, along
from tauten.losses.max_margin import MarginLoss
from tauten.losses.options import Force, SharedOptions
from tauten.losses.partition import need_negatives
from tauten.pairwise import PairNumber, Reduction, Term
from tauten.reads import FREE, ask, waiting
from tauten.relations import Ids
from tauten.spec import Context, ControlSpec, LossSpec

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from tauten.losses.options import RelationOptions

#: (N, M) relevancies of a batch, or codes of its rows and columns in a table
Relevancies = Tensor | tuple[Tensor, Tensor]


class SMS(MarginLoss):
    """Max-margin whose margins follow the relevancy of both candidates (Wang et al., 2024).

    With Δ_ij = rel_ii − rel_ij how much more relevant the positive is, and g_ij = s_ii − s_ij:

    ℓ_i = 1/(2(B−1)) Σ_{j≠i} h(Δ_ij·m_i, g_ij) + h(Δ_ji·m_i, s_ii − s_ji)

    * Δ > tie:   h = [Δ·m − g]₊          the positive must win by Δ·m
    * |Δ| <= tie: h = [|Δ·m − g| − slack]₊  as relevant: both must score alike
    * Δ < −tie:  h = [g − Δ·m]₊          the candidate is the more relevant one and must win

    with Δ_ji = rel_ii − rel_ji in the other direction. Ignored pairs count as zeros. If every
    candidate but the positive has relevancy 0 and the positive has 1, this is :class:`MaxMargin`.

    Args:
        margin: a control or a number >= 0; published: 0.6.
        table: (A, C) in [0, 1], relevancies between kinds of rows and kinds of columns, held on the
            loss's device. A batch then names the kinds, and several processes need no more than
            their own rows. For EPIC-KITCHENS-100 ``tauten.data.Relevancy.table``.
        slack: difference in score that candidates of equal relevancy may have, >= 0.
        tie: difference in relevancy that counts as none, >= 0; published: 1.1/240, since the public
            code rounds relevancies to 240ths. Here they are exact.

    The other arguments are those of :class:`InfoNCE`, without ``force=``.

    Raises:
        ValueError: a margin that can fall below 0, or an option out of range.
    """

    forces: tuple[Force, ...] = ("plain",)
    composition = MarginLoss.composition
    no_keys = "it is told the relevancies of the pairs of a batch, and not of keys"
    no_targets = no_repulsion = "relevancy= says how relevant each candidate is"
    no_negatives = "it is told the relevancies of the pairs of a batch: use MaxMargin"
    table: Tensor | None

    def __init__(
        self,
        margin: Control | float = 0.6,
        *,
        table: Tensor | None = None,
        slack: float = 0.1,
        tie: float = 1.1 / 240,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(margin, **options)
        if finite("slack", slack) < 0 or finite("tie", tie) < 0:
            raise ValueError(f"slack and tie must be >= 0 and finite, got {slack} and {tie}")
        self.term = _Gap(slack, tie)
        if table is not None:
            table = _checked(table, tuple(getattr(table, "shape", ())), "table")
        self.register_buffer("table", table, persistent=False)

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        *,
        relevancy: Relevancies | None = None,
        **relation: Unpack[RelationOptions],
    ) -> Tensor:
        """Return the loss of a batch of pairs, with the keywords of
        :meth:`ContrastiveLoss.forward`.

        Args:
            relevancy: (N, M) in [0, 1], of each x[i] and y[j]; over processes with the columns of
                all of them in their order. With a table ((N,), (M,)) long instead: the row of the
                table of each x[i] and the column of each y[j], of this process.

        Raises:
            ValueError: also without ``relevancy``, with codes outside the table, and for
                ``labels=``, since a margin needs one positive per anchor.
        """
        return self._reduce(self.batch(x, y, index, relevancy=relevancy, **relation))

    def batch(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        *,
        relevancy: Relevancies | None = None,
        **relation: Unpack[RelationOptions],
    ) -> Batch:
        batch = super().batch(x, y, index, **relation)
        return replace(batch, relevance=self._relevancies(relevancy, batch))

    def _relevancies(self, relevancy: Relevancies | None, batch: Batch) -> PairNumber:
        """Return rel_ij of all pairs as a rule of the codes of rows and columns."""
        n, m, device = len(batch.x), len(batch.y), batch.x.device
        if isinstance(relevancy, tuple):
            if self.table is None:
                raise ValueError("codes of rows and columns need SMS(..., table=)")
            table, (rows, cols) = self.table, two("relevancy", relevancy)
            rows = _checked_codes("rows", rows, n, table.shape[0]).to(device)
            cols = _checked_codes("columns", cols, m, table.shape[1]).to(device)
        elif relevancy is None:
            raise ValueError(
                "SMS needs relevancy=, (N, M) in [0, 1]; without it use MaxMargin with relevance="
            )
        else:
            table = _checked(relevancy, (n, sum(batch.ranks.cols) if batch.ranks else m))
            rows, cols = torch.arange(n, device=device), torch.arange(m, device=device)
            cols += batch.ranks.first if batch.ranks else 0
        row_number = cast(Tensor, batch.number(rows, "x2y"))
        col_number = cast(Tensor, batch.number(cols, "y2x"))
        return PairNumber(_LookUp(table.to(device, batch.dtype)), (row_number, col_number))

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        need_negatives(self, batch, directions)
        relevancies = batch.relevance
        assert relevancies is not None
        reductions = []
        for d in directions:
            numbers = (
                relevancies,
                batch.number(batch.at_positives(relevancies, d), d),
                batch.number(batch.strength(self.strength, d), d),
                batch.number(batch.positives(d), d),
            )
            reductions.append(Reduction.of(along(d), "sum", self.term, *numbers))
        sums = batch.reduce(*reductions, own=True)
        return [
            total / (batch.candidates(d) - 1) for total, d in zip(sums, directions, strict=True)
        ]


@dataclass(frozen=True)
class _Gap(Term):
    """h(Δ·m, s⁺ − s) with Δ = rel⁺ − rel; the numbers are rel, rel⁺, m and s⁺."""

    slack: float
    tie: float

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        relevancy, best, margin, positive = numbers
        wanted = best - relevancy
        lacking = wanted * margin - positive + s
        apart = torch.where(wanted > 0, lacking, -lacking)
        alike = lacking.abs() - self.slack
        return torch.where(wanted.abs() > self.tie, apart, alike).relu()


@dataclass(frozen=True, eq=False)
class _LookUp:
    """The value of a pair by the codes of its row and its column: of a tile, or of pairs (n,)."""

    table: Tensor

    def __call__(self, s: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        if s.dim() == 1:
            return self.table[rows, cols]
        # a fourth of the time of table[rows, cols]
        return self.table.index_select(0, rows[:, 0]).index_select(1, cols[0])


def _checked(relevancy: Tensor, shape: tuple[int, ...], name: str = "relevancy") -> Tensor:
    if not isinstance(relevancy, Tensor):
        raise ValueError(f"{name} must be a matrix {shape}, got {type(relevancy).__name__}")
    if relevancy.is_complex():
        raise ValueError(f"{name} must be in [0, 1], got {relevancy.dtype}")
    if relevancy.shape != shape or relevancy.dim() != 2:
        raise ValueError(f"{name} must be a matrix {shape}, got {tuple(relevancy.shape)}")
    if not bool(((relevancy >= 0) & (relevancy <= 1)).all()):
        raise ValueError(
            f"{name} must be in [0, 1], got {float(relevancy.min())} .. {float(relevancy.max())}"
        )
    return relevancy.detach()


def _checked_codes(name: str, codes: Tensor, length: int, size: int) -> Tensor:
    """Return the codes of one side; where the answer comes later, some code of the table."""
    if not isinstance(codes, Tensor):
        raise ValueError(
            f"codes of {name} must be ({length},) integers, got {type(codes).__name__}"
        )
    if codes.dim() != 1 or len(codes) != length or codes.is_floating_point():
        raise ValueError(
            f"codes of {name} must be ({length},) integers, got {codes.dtype} {tuple(codes.shape)}"
        )
    ask(((codes < 0) | (codes >= size)).any(), partial(_refuse_codes, name, codes, size))
    return codes if waiting() is None or codes.device.type in FREE else codes.clamp(0, size - 1)


def _refuse_codes(name: str, codes: Tensor, size: int, outside: bool) -> None:
    if outside:
        raise ValueError(
            f"codes of {name} must be in 0 .. {size - 1}, got {int(codes.min())} .. "
            f"{int(codes.max())}"
        )


@dataclass
class SMSSpec(LossSpec):
    """Max-margin whose margins follow graded relevancies (SMS)."""

    kind: ClassVar[str] = "sms"
    title: ClassVar[str] = "SMS"
    strength: ClassVar[Literal["temperature", "margin"]] = "margin"

    @property
    def relevance(self) -> Literal["none", "positives", "pairs"]:
        return "pairs"

    def build(self, control: ControlSpec, context: Context) -> SMS:
        return SMS(control.build(context), table=context.relevancies, **self.directions(context))
