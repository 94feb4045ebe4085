"""Attraction and repulsion on the anchors of the last training batch, by count group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tauten.losses import ContrastiveLoss, forces
from tauten.outcome import ALL, GROUPS

#: anchors of the last batch whose forces are computed, at most
ANCHORS = 1024


def force_by_group(
    loss_fn: ContrastiveLoss,
    x: Tensor,
    y: Tensor,
    ids: Any,
    groups: Sequence[str] | None,
    **keywords: Any,
) -> dict[str, float]:
    """Return the force per anchor of each group that is in the batch, with the values of now.

    Args:
        loss_fn: whose forces they are.
        x: (N, d) the anchors.
        y: (M, d) the candidates.
        ids: data set positions of both, or of one side and the other.
        groups: "head", "mid" or "tail" of each training sample; None where there are no classes.
        keywords: further ones of the loss.
    """
    anchors: Tensor = ids[0] if isinstance(ids, tuple) else ids
    index = anchors.tolist()
    names = [ALL] * len(index) if groups is None else [groups[i] for i in index]
    by_group = forces(loss_fn, x, y, ids, groups=names, **keywords).by_group
    return {
        f"force/{kind}/{name}": by_group[name][side] / names.count(name)
        for side, kind in enumerate(("attraction", "repulsion"))
        for name in (*GROUPS, ALL)
        if name in by_group
    }
