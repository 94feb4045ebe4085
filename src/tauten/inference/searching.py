"""Exact nearest neighbours over embeddings that may lie on disk."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
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


def nearest(queries: Any, embeddings: Any, k: int = 10, *, unit: bool = False) -> Found:
    """Find the k rows of largest cosine, exactly, reading the embeddings once in blocks.

    Args:
        queries: (Q, d), or (d,) for one.
        embeddings: (N, d), an array, tensor or memory-mapped file.
        k: rows of each query; all N where there are fewer.
        unit: all rows of the embeddings have length 1.

    Raises:
        ValueError: k < 1, no rows, or widths that differ.
    """
    asked = torch.from_numpy(_array(queries).copy())
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
    columns = asked.T.contiguous().numpy()
    scores, rows = asked.new_empty(len(asked), 0), torch.empty(len(asked), 0, dtype=torch.long)
    for start in range(0, shape[0], _BLOCK):
        block = _array(embeddings[start : start + _BLOCK])
        products = block @ columns
        if not unit:
            products /= np.linalg.norm(block, axis=1, keepdims=True).clip(1e-12)
        cosines = torch.from_numpy(products).T
        best = cosines.topk(min(k, len(block)), dim=1)
        scores, rows = (
            torch.cat([scores, best.values], 1),
            torch.cat([rows, best.indices + start], 1),
        )
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        scores, rows = scores[:, :k], rows.gather(1, order)[:, :k]
    return Found(scores, rows)


def _array(rows: Any) -> npt.NDArray[np.float32]:
    """Return rows as float32, those of a mapped file without a copy."""
    if isinstance(rows, Tensor):
        rows = rows.detach().cpu().float().numpy()
    return np.asarray(rows, dtype=np.float32)
