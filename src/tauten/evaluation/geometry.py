"""Geometry of embeddings on the sphere: alignment, uniformity, tolerance, modality gap.

Shape suffixes: N points of side x, M of side y, P matching pairs, d width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.evaluation.checks import group_names, positive, whole
from tauten.evaluation.class_scores import NO_CLASS, listed_classes
from tauten.evaluation.correspondence import Correspondence, correspondence, propagate, sides
from tauten.ids import check_stored

RIDGE = 1e-3


@torch.no_grad()
def geometry(
    x: Any,
    y: Any,
    labels: Sequence[Any] | Tensor | None = None,
    groups: Sequence[str] | None = None,
    *,
    y_of_x: Any = None,
    t: float = 2.0,
    separability: bool = False,
    seed: int = 0,
    tile: int = 2048,
) -> dict[str, float]:
    """Describe the geometry of two modalities' embeddings (rows are normalised here).

    * ``alignment``: E ||x_i - y_j||^2 over matching pairs; 0 is perfect, 2 is orthogonal
      (Wang & Isola 2020, alpha = 2);
    * ``uniformity/x``, ``/y``: log E exp(-t ||a - b||^2) over pairs of distinct points of one side;
      0 is collapsed, lower is more uniform (Wang & Isola 2020); ``uniformity/cross``: the same over
      pairs (x_i, y_j) that do not match;
    * ``tolerance/x``, ``/y``: mean cosine of distinct points of one class (Wang & Liu 2021);
      ``tolerance/cross``: of x_i and y_j of one class that do not match. Needs ``labels``;
    * ``effective_rank/x``, ``/y``: exp of the entropy of the singular values over their sum,
      between 1 (all on one line) and d (Roy & Vetterli 2007; RankMe of Garrido et al. 2023), and 0
      where all rows are zeros;
    * ``modality_gap``: distance of the two sides' centroids (Liang et al. 2022);
    * ``separability``: held-out accuracy of a linear classifier (ridge on +-1, trained on a random
      half of each side) that tells x from y; 0.5 is inseparable, 1 fully separated.

    A row of zeros has no direction: its cosine with every row is 0, another such row too, and their
    squared distance 2 - 2 cos is 2. It adds nothing to an effective rank, and lies at the origin
    for a centroid.

    With ``groups`` also of the points of each group alone, as ``.../GROUP``.

    All sums are over all pairs, none sampled, in tiles, products in the precision of the inputs and
    kernels and totals in float64. A mean over no pair (one point, classes of one) is NaN.

    Args:
        x: (N, d) embeddings.
        y: (M, d) embeddings.
        labels: A class per x, ``None`` or NaN for one without; a y is of the class of its x's.
        groups: A name per x, such as head, mid and tail; a y is in the groups of its x's.
        y_of_x: For each x the list of its y's; default: row i of x matches row i of y.
        t: Sharpness of the uniformity kernel, > 0.
        separability: Whether to compute the last item, of all points alone.
        seed: Seed of the classifier's random halves.
        tile: Edge of the tiles.

    Raises:
        ValueError: Bad embeddings or correspondence (see :func:`tauten.evaluation.ranks`), unequal
            lengths without ``y_of_x``, labels of the wrong length or conflicting for a y, groups of
            the wrong length, t <= 0, or fewer than 2 rows on a side with ``separability``.
    """
    x, y = sides(x, y, normalize=True)
    positive(t, "t")
    whole(tile, "tile", 1)
    whole(seed, "seed")
    if y_of_x is None:
        if len(x) != len(y):
            raise ValueError(
                f"x has {len(x)} rows but y has {len(y)}: give y_of_x, the list of each x's y's"
            )
        y_of_x = torch.arange(len(x))
    pairs = correspondence(y_of_x, len(x), len(y))
    owners, targets = pairs.owners.to(x.device), pairs.targets.to(x.device)
    out = {
        "alignment": float(_squared_distances(x[owners], y[targets]).mean()),
        "uniformity/x": _uniformity_within(x, t, tile),
        "uniformity/y": _uniformity_within(y, t, tile),
        "uniformity/cross": _log_kernel_mean(x, y, (owners, targets), t, tile),
        "effective_rank/x": effective_rank(x),
        "effective_rank/y": effective_rank(y),
        "modality_gap": float((x.mean(dim=0) - y.mean(dim=0)).norm()),
    }
    if labels is not None:
        labels = listed_classes(labels, len(x), "labels", "x")
        out |= _tolerance(x, y, labels, pairs)
    for name in sorted(set(groups)) if groups is not None else ():
        out |= _of_group(x, y, labels, pairs, groups or (), name, t, tile)
    if separability:
        out["separability"] = _separability(x, y, seed)
    return out


def _of_group(
    x: Tensor,
    y: Tensor,
    labels: Sequence[Any] | Tensor | None,
    pairs: Correspondence,
    groups: Sequence[str],
    name: str,
    t: float,
    tile: int,
) -> dict[str, float]:
    """Describe the points of one group, and the y's that match them."""
    group_names(groups, "groups", "x", len(x))
    rows = [i for i, group in enumerate(groups) if group == name]
    of_row: dict[int, list[int]] = {i: [] for i in rows}
    for owner, target in zip(pairs.owners.tolist(), pairs.targets.tolist(), strict=True):
        if owner in of_row:
            of_row[owner].append(target)
    columns = sorted({j for matches in of_row.values() for j in matches})
    at = {j: place for place, j in enumerate(columns)}
    metrics = geometry(
        x[rows],
        y[columns],
        None if labels is None else [labels[i] for i in rows],
        y_of_x=[[at[j] for j in of_row[i]] for i in rows],
        t=t,
        tile=tile,
    )
    return {f"{key}/{name}": value for key, value in metrics.items()}


@torch.no_grad()
def effective_rank(rows: Tensor) -> float:
    """Return exp(−Σ_k p_k log p_k) of p_k = σ_k / Σ_l σ_l, σ the singular values.

    They are the roots of the eigenvalues of the (d, d) Gram matrix in float64, so that those below
    1e-7 of the largest are rounding and left out. It lies between 1 and d; rows of zeros alone, or
    no rows, have rank 0.

    Args:
        rows: (N, d), as given: not centred, not scaled.

    Raises:
        ValueError: no matrix of floating numbers with d > 0, or rows that are not finite.
    """
    if not isinstance(rows, Tensor):
        raise ValueError(f"rows must be a floating tensor (N, d), got {type(rows).__name__}")
    if rows.dim() != 2 or not rows.shape[1]:
        raise ValueError(f"rows must be floating (N, d) with d > 0, got {tuple(rows.shape)}")
    if not rows.is_floating_point():
        raise ValueError(f"rows must hold floating numbers, got {rows.dtype}: pass rows.float()")
    check_stored("rows", rows, "them")
    gram = sum(
        (part.double().T @ part.double() for part in rows.split(2**16)),
        rows.new_zeros(rows.shape[1], rows.shape[1], dtype=torch.float64),
    )
    sigma = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    sigma = sigma[sigma > 1e-7 * sigma.max()]
    if not len(sigma):
        return 0.0
    share = sigma / sigma.sum()
    return float(torch.special.entr(share).sum().exp())


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return (P,) ||a_p - b_p||^2 of rows of length 1, and 2 where one is zeros."""
    directed = a.any(dim=1) & b.any(dim=1)
    return (a - b).square().sum(dim=1).where(directed, 2.0)


def _log_kernel_mean(
    a: Tensor, b: Tensor, left_out: tuple[Tensor, Tensor], t: float, tile: int
) -> float:
    """Log of the mean of exp(-t ||a_i - b_j||^2) over all pairs but those that are left out.

    Args:
        a: (N, d) of length 1.
        b: (M, d) of length 1; if it is a, a tile is also its transpose.
        left_out: row and column of each pair that does not count, by ascending row.
        t: sharpness of the kernel.
        tile: edge of the tiles.
    """
    total = a.new_full((), -torch.inf, dtype=torch.float64)
    row, column = left_out
    for i in range(0, len(a), tile):
        ends = torch.tensor([i, i + tile], device=row.device)
        first, last = torch.searchsorted(row, ends).tolist()
        own_row, own_column = row[first:last] - i, column[first:last]
        for j in range(i if a is b else 0, len(b), tile):
            here = (own_column >= j) & (own_column < j + tile)
            exponent = 2 * t * ((a[i : i + tile] @ b[j : j + tile].T).double() - 1)
            exponent[own_row[here], own_column[here] - j] = -torch.inf
            part = exponent.flatten().logsumexp(dim=0)
            total = torch.logaddexp(total, part + math.log(2 if a is b and j > i else 1))
    pairs = len(a) * len(b) - len(row)
    return float(total) - math.log(pairs) if pairs else float("nan")


def _uniformity_within(a: Tensor, t: float, tile: int) -> float:
    selves = torch.arange(len(a), device=a.device)
    return _log_kernel_mean(a, a, (selves, selves), t, tile)


def _tolerance(
    x: Tensor, y: Tensor, labels: Sequence[Any], pairs: Correspondence
) -> dict[str, float]:
    """Return sums over pairs of one class: sum_{i,j in c} <a_i, b_j> = <A_c, B_c>."""
    pairs.inverse().require_complete("y", "tolerance")
    names: list[Any] = [NO_CLASS if value is None else str(value) for value in labels]
    given = dict.fromkeys(name for name in names if name is not NO_CLASS)
    ids = {name: k for k, name in enumerate([*given, NO_CLASS])}
    class_of_x = torch.tensor([ids[name] for name in names], device=x.device)
    names_of_y = propagate(names, pairs, "labels of one class per y")
    class_of_y = torch.tensor([ids[name] for name in names_of_y], device=x.device)

    sums, sizes = [], []
    for side, classes in ((x, class_of_x), (y, class_of_y)):
        of_classes = side.new_zeros(len(ids), side.shape[1]).index_add_(0, classes, side)
        sums.append(of_classes[:-1])
        sizes.append(torch.bincount(classes, minlength=len(ids))[:-1])
    owners, targets = pairs.owners.to(x.device), pairs.targets.to(x.device)
    named = class_of_x[owners] < len(ids) - 1
    owners, targets = owners[named], targets[named]
    matching = (x[owners] * y[targets]).sum()
    in_class = x[class_of_x < len(ids) - 1], y[class_of_y < len(ids) - 1]
    out = {}
    for name, a, b, excluded, count in (
        ("x", 0, 0, in_class[0].square().sum(), len(in_class[0])),
        ("y", 1, 1, in_class[1].square().sum(), len(in_class[1])),
        ("cross", 0, 1, matching, len(owners)),
    ):
        total = (sums[a] * sums[b]).sum() - excluded
        number = int((sizes[a] * sizes[b]).sum()) - count
        out[f"tolerance/{name}"] = float(total / number) if number else float("nan")
    return out


def _separability(x: Tensor, y: Tensor, seed: int) -> float:
    if min(len(x), len(y)) < 2:
        raise ValueError(f"separability needs 2 rows per side, got {len(x)} x and {len(y)} y")
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[Tensor]] = [[], []]
    for side in (x, y):
        order = torch.randperm(len(side), generator=generator).to(side.device)
        for half, rows in zip(parts, (order[::2], order[1::2]), strict=True):
            half.append(side[rows])
    (train_x, train_y), (test_x, test_y) = parts
    centre = (train_x.mean(dim=0) + train_y.mean(dim=0)) / 2
    train = torch.cat([train_x, train_y]) - centre
    sign = torch.cat([torch.ones(len(train_x)), -torch.ones(len(train_y))]).to(train)
    gram = train.T @ train + RIDGE * len(train) * torch.eye(train.shape[1]).to(train)
    weight = torch.linalg.solve(gram, train.T @ sign)
    right_x = ((test_x - centre) @ weight > 0).double().mean()
    right_y = ((test_y - centre) @ weight < 0).double().mean()
    return float(right_x + right_y) / 2
