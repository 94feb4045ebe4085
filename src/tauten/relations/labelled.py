"""Labels of a batch: which rows and columns have a positive by them.

Shapes: n rows of this process, M columns of all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.pairwise.sides import BLOCK
from tauten.relations.checks import check_labelled

if TYPE_CHECKING:
    from tauten.relations.relation import Relation


def by_labels(relation: Relation, rows: int, cols: int, directions: str) -> Relation:
    """Return the relation with what labels say of rows and columns that have a positive."""
    labels, ranks = relation.labels, relation.ranks
    assert labels is not None
    all_rows = labels[0] if ranks is None else ranks.gather(labels[0], ranks.rows)
    meant = torch.isin(labels[0], labels[1]), torch.isin(labels[1], all_rows)
    left = meant
    if relation.itself or relation.ignore is not None:
        left = _left_with_positive(relation)
    lacking = ""
    if relation.itself or relation.ignore is not None:
        lacking = " but itself" if relation.ignore is None else " that ignore= leaves"
    here = slice(None) if ranks is None else ranks.own
    if relation.itself:
        directions = "x2y"
    checks = []
    if directions != "y2x":
        checks.append(("x", labels[0], left[0], lacking or " on the other side"))
    if directions == "y2x":
        checks.append(("y", labels[1][here], left[1][here], lacking or " on the other side"))
    elif directions == "both":
        checks.append(("y", labels[1][here], (left[1] | ~meant[1])[here], lacking))
    check_labelled(checks, ranks)
    alone = bool((~left[1]).any())
    lengths = (rows, cols) if ranks is None else (ranks.rows, ranks.cols)
    some_rows, some_cols = ~left[0].all(), ~left[1][here].all()
    return replace(
        relation,
        rows_paired=left[0] if bool(some_rows) else None,
        columns_paired=left[1][here] if bool(some_cols) else None,
        paired=directions != "both" or (lengths[0] == lengths[1] and not alone),
    )


def _left_with_positive(relation: Relation) -> tuple[Tensor, Tensor]:
    """Return which rows (n,) and columns (M,) have a positive that counts."""
    mask = relation.mask(own=False, only_positives=True)
    assert mask is not None
    assert relation.labels is not None
    rows, cols = (len(side) for side in relation.labels)
    device = relation.positive.device
    of_rows = torch.zeros(rows, dtype=torch.bool, device=device)
    of_cols = torch.zeros(cols, dtype=torch.int64, device=device)
    for start in range(0, rows, BLOCK):
        block = slice(start, min(start + BLOCK, rows))
        out = mask.tile(block, slice(0, cols))
        assert out is not None
        of_rows[block] = (~out).any(1)
        of_cols += (~out).sum(0)
    if relation.ranks is not None:
        relation.ranks.sum_(of_cols)
    return of_rows, of_cols > 0
