"""Exact nearest neighbours over embeddings that may lie on disk."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_BLOCK = 2**16


class Found(NamedTuple):
    """Nearest rows of each query, the nearest first.

    Attributes:
        scores: (Q, k) cosines.
        rows: (Q, k) positions, long.
    """

    scores: Tensor
    rows: Tensor


def nearest(queries: Any, embeddings: Any, k: int = 10) -> Found:
    """Find the k rows of largest cosine, exactly, reading the embeddings once in blocks.

    Args:
        queries: (Q, d), or (d,) for one.
        embeddings: (N, d), an array, tensor or memory-mapped file.
        k: rows of each query; all N where there are fewer.

    Raises:
        ValueError: k < 1, no rows, or widths that differ.
    """
    asked = _floats(queries)
    asked = asked[None] if asked.dim() == 1 else asked
    shape = tuple(embeddings.shape)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if asked.dim() != 2 or len(shape) != 2 or asked.shape[1] != shape[1] or 0 in shape:
        raise ValueError(
            f"queries {tuple(asked.shape)} and embeddings {shape} must be matrices of one width, "
            "with rows to search"
        )
    asked = F.normalize(asked, dim=1)
    scores, rows = asked.new_empty(len(asked), 0), torch.empty(len(asked), 0, dtype=torch.long)
    for start in range(0, shape[0], _BLOCK):
        block = _floats(embeddings[start : start + _BLOCK])
        cosines = asked @ F.normalize(block, dim=1).T
        best = cosines.topk(min(k, len(block)), dim=1)
        scores, rows = (
            torch.cat([scores, best.values], 1),
            torch.cat([rows, best.indices + start], 1),
        )
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        scores, rows = scores[:, :k], rows.gather(1, order)[:, :k]
    return Found(scores, rows)


def _floats(rows: Any) -> Tensor:
    if isinstance(rows, Tensor):
        return rows.detach().cpu().float()
    return torch.from_numpy(np.array(rows, dtype=np.float32))
