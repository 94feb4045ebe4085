"""Distances along the graph of nearest neighbours, for targets that follow them (G2L)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import whole
from tauten.pairwise.sides import EPSILON, compute_dtype


@torch.no_grad()
def geodesics(vectors: Tensor, neighbours: int) -> Tensor:
    """Return the length of the shortest path between any two samples in their neighbour graph.

    ::

        distance = geodesics(moments, 5)
        loss = loss_fn(x, y, targets=Codes((-distance / 0.3).exp(), rows, cols))

    An edge joins two samples of which one is among the nearest of the other, and is as long as
    1 − their cosine. Targets that fall with the distance are those of G2L (Li et al. 2023), whose
    own scale was not had. It takes O(N³) work and O(N²) memory: of the moments of some videos, or
    of kinds of samples, and not of a whole data set.

    Args:
        vectors: (N, d).
        neighbours: nearest samples of each, 1 .. N − 1.

    Returns:
        (N, N), symmetric, 0 on the diagonal, infinite between parts that no path joins.

    Raises:
        ValueError: no (N, d), or a number of neighbours out of range.
    """
    if not isinstance(vectors, Tensor) or vectors.dim() != 2 or not vectors.is_floating_point():
        shape = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
        raise ValueError(f"vectors must be floating (N, d), got {shape}")
    number = len(vectors)
    if whole("neighbours", neighbours, 1) >= number:
        raise ValueError(f"neighbours must be in 1 .. {number - 1}, got {neighbours}")
    units = F.normalize(vectors.to(compute_dtype(vectors)), dim=1, eps=EPSILON)
    edges = (1 - units @ units.T).clamp(min=0).fill_diagonal_(torch.inf)
    nearest = edges.topk(neighbours, dim=1, largest=False).indices
    near = torch.zeros_like(edges, dtype=torch.bool).scatter_(1, nearest, True)
    paths = edges.masked_fill_(~(near | near.T), torch.inf).fill_diagonal_(0.0)
    for over in range(number):  # Floyd and Warshall
        torch.minimum(paths, paths[:, over, None] + paths[None, over], out=paths)
    return paths
