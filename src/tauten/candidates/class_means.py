"""Means of the classes of a batch, one candidate for each class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import MOST, flag, whole
from tauten.ids import check_index
from tauten.pairwise.exchange import Ranks, several_processes, total
from tauten.pairwise.sides import EPSILON, compute_dtype, within_range


def class_means(
    vectors: Tensor, classes: Tensor, count: int, *, normalize: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the mean of each class that the batch has, and which class it is.

    ::

        means, ids = class_means(texts, cluster, clusters)
        loss = loss_fn(images, means, labels=(cluster, ids))     # directions="x2y"

    A class has one mean however many samples it has, and none where it has no sample. Over
    processes the classes are those of all, and each process returns its share of the means, as a
    loss takes them; their gradient is exact.

    Args:
        vectors: (N, d).
        classes: (N,) long, in 0 .. count − 1.
        count: how many classes there are.
        normalize: whether rows are scaled to length 1 first.

    Returns:
        (C, d) and (C,) long, in the order of the classes.

    Raises:
        ValueError: shapes that do not fit, or a class out of range.
    """
    if whole("count", count, -MOST) < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if not isinstance(vectors, Tensor) or vectors.dim() != 2 or not vectors.is_floating_point():
        shape = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
        raise ValueError(f"vectors must be floating (N, d), got {shape}")
    code = check_index(classes).long().to(vectors.device)
    if len(code) != len(vectors):
        raise ValueError(f"classes must name each of {len(vectors)} rows, got {len(code)}")
    if len(code) and not 0 <= int(code.min()) <= int(code.max()) < count:
        raise ValueError(
            f"classes must be in 0 .. {count - 1}, got {int(code.min())} .. {int(code.max())}"
        )
    with torch.autocast(vectors.device.type, enabled=False):
        rows = vectors.to(compute_dtype(vectors))
        if flag("normalize", normalize):
            rows = F.normalize(within_range(rows), dim=1, eps=EPSILON)
        sums = rows.new_zeros(count, rows.shape[1]).index_add(0, code, rows)
        sizes = torch.bincount(code, minlength=count)
        share = slice(None)
        if several_processes():
            ranks = Ranks(len(rows), len(rows), rows.device)
            sums, sizes = total(sums, ranks), ranks.sum_(sizes)
            present = int((sizes > 0).sum())
            share = slice(
                present * ranks.rank // ranks.size, present * (ranks.rank + 1) // ranks.size
            )
        ids = (sizes > 0).nonzero().squeeze(1)[share]
        return sums[ids] / sizes[ids].unsqueeze(1), ids
