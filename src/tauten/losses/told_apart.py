"""Checks that a loss can tell apart the anchors and pairs whose ids or labels it was given."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.controls import Direction
from tauten.reads import ask
from tauten.relations import Relation

if TYPE_CHECKING:
    from tauten.losses.base import ContrastiveLoss


def check_ids_of_pairs(
    loss_fn: ContrastiveLoss, ids: dict[Direction, Tensor], relation: Relation
) -> None:
    """Refuse ids of two kinds where a control has numbers of one kind only."""
    rows, cols = ids["x2y"], ids["y2x"]
    if relation.labels is None and not relation.itself:
        if not len(cols):  # all columns lie on other processes
            return
        cols = cols[relation.positive]
    if rows is cols:
        return
    if len(rows) != len(cols):
        _refuse_kinds(loss_fn, relation.itself, True)
    else:
        ask((rows != cols).any(), partial(_refuse_kinds, loss_fn, relation.itself))


def _refuse_kinds(loss_fn: ContrastiveLoss, itself: bool, differ: bool) -> None:
    if differ and itself:
        raise ValueError("one set of embeddings has one id for each row: pass index= as (N,)")
    if differ and (loss_fn.directions == "both" or loss_fn.strength.granularity == "pair"):
        loss_fn.check_one_table()


def check_labels(loss_fn: ContrastiveLoss, relation: Relation, *, twice: bool) -> None:
    """Refuse labels where each anchor or each pair must be told apart."""
    if loss_fn.strength.granularity == "pair":
        raise ValueError(
            f"{loss_fn.strength!r} gives each pair a value of its own and needs one positive for "
            "each anchor: pass labels as same=, which leaves the further positives out"
        )
    if twice and not _ignores_itself(relation):
        raise ValueError(
            "x and y are one tensor, and with labels= each row would be its own positive: pass "
            "it once, loss_fn(z, labels=...), or set the diagonal of ignore="
        )
    if loss_fn.reduction == "none" and loss_fn.directions == "both" and not relation.paired:
        raise ValueError(
            "reduction='none' gives a value for each pair, but these labels make no pairs of x "
            "and y: use directions='x2y' or 'y2x', or another reduction"
        )


def _ignores_itself(relation: Relation) -> bool:
    rows = torch.arange(len(relation.positive), device=relation.positive.device)
    return relation.ignore is not None and bool(relation.ignore[rows, relation.columns].all())
