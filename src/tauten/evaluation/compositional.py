"""Accuracy against an anchor's own hard negatives, such as captions with one word changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tauten.evaluation.checks import group_names, tensor, whole
from tauten.evaluation.correspondence import rounding, sides, unit
from tauten.evaluation.summary import PerQuery, summarize


@torch.no_grad()
def compositional(
    x: Any,
    y: Any,
    negatives: Any,
    groups: Sequence[str] | None = None,
    *,
    missing: Any = None,
    normalize: bool = True,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Return how often x_i prefers y_i to its own negatives n_i1, ..., n_iK.

    * ``accuracy``: share of i with s(x_i, y_i) > max_k s(x_i, n_ik); chance is 1/(K + 1);
    * ``pairwise``: mean over i of the share of k with s(x_i, y_i) > s(x_i, n_ik); chance is 1/2;
    * ``n``, ``.../GROUP``, ``.../low``, ``.../high`` as :func:`tauten.evaluation.retrieval` has
      them; the intervals are Wilson's.

    A negative that scores the same, up to rounding of the dot product, wins. Where numbers of
    negatives differ, ``missing`` marks what only fills up; an anchor without any is not counted.

    Args:
        x: (N, d) anchors, such as images.
        y: (N, d), row i belongs to row i of x.
        negatives: (N, K, d), those of each anchor.
        groups: a name per x.
        missing: (N, K) bool, True where there is no negative; None where all are there.
        normalize: score by cosine, else by the dot product.
        bootstrap: 0 leaves the intervals out.
        seed: has no effect on Wilson's intervals; for one signature with the others.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, groups of another length, no
            negative at all.
    """
    whole(bootstrap, "bootstrap", 0)
    anchors, matches = sides(x, y, normalize)
    other = tensor(negatives, "negatives")
    right = other.ndim == 3 and other.shape[1] >= 1 and other.is_floating_point()
    if len(matches) != len(anchors) or not right or other[:, 0].shape != anchors.shape:
        raise ValueError(
            f"x and y must be (N, d) and negatives (N, K, d) with K >= 1, got "
            f"{tuple(anchors.shape)}, {tuple(matches.shape)} and {tuple(other.shape)}"
        )
    gone_NK = torch.zeros(other.shape[:2], dtype=torch.bool)
    if missing is not None:
        gone_NK = tensor(missing, "missing").cpu()
        if gone_NK.dtype != torch.bool or gone_NK.shape != other.shape[:2]:
            raise ValueError(
                f"missing must be bool {tuple(other.shape[:2])}, one for each negative, got "
                f"{gone_NK.dtype} {tuple(gone_NK.shape)}"
            )
    there_NK = ~gone_NK.to(other.device)
    broken_N = (~other.isfinite().all(dim=2) & there_NK).any(dim=1)
    if bool(broken_N.any()):
        raise ValueError(f"negatives has NaN or inf for {int(broken_N.sum())} of {len(anchors)} x")
    if groups is not None:
        group_names(groups, "groups", "x", len(anchors))
    asked_N = there_NK.any(dim=1)
    if not bool(asked_N.any()):
        raise ValueError(f"none of {len(anchors)} x has a negative: missing= marks all of them")
    if groups is not None:
        groups = [name for name, asked in zip(groups, asked_N.tolist(), strict=True) if asked]
    anchors, matches, there_NK = anchors[asked_N], matches[asked_N], there_NK[asked_N]
    other = other[asked_N].to(anchors.dtype).where(there_NK[:, :, None], anchors[:, None])
    if normalize:
        other = unit(other.flatten(0, 1)).view(other.shape)
    score_N = (anchors * matches).sum(dim=1)
    tolerance_N = rounding(anchors.norm(dim=1) * matches.norm(dim=1))
    beaten_NK = torch.einsum("nd,nkd->nk", anchors, other) < (score_N - tolerance_N)[:, None]
    shares = {
        "accuracy": (beaten_NK | ~there_NK).all(dim=1),
        "pairwise": (beaten_NK & there_NK).double().sum(dim=1) / there_NK.sum(dim=1),
    }
    scores = PerQuery({name: share.double().cpu() for name, share in shares.items()})
    return summarize("", scores, groups, None, bootstrap, seed)
