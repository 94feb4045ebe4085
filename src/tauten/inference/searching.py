"""Exact nearest neighbours over embeddings that may lie on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import whole

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
        embeddings: (N, d), an array, tensor, list of rows or memory-mapped file.
        k: rows of each query; all N where there are fewer.
        unit: all rows of the embeddings have length 1.

    Raises:
        ValueError: k < 1, no rows, widths that differ, numbers that are not finite, or a query of
            zeros, which has no direction.
    """
    k = whole("k", k, 1)
    if not hasattr(embeddings, "shape"):
        embeddings = _array(embeddings, "embeddings")
    asked = torch.from_numpy(_array(queries, "queries").copy())
    asked = asked[None] if asked.dim() == 1 else asked
    shape = tuple(embeddings.shape)
    if asked.dim() != 2 or len(shape) != 2 or asked.shape[1] != shape[1] or 0 in shape:
        raise ValueError(
            f"queries {tuple(asked.shape)} and embeddings {shape} must be matrices of one width, "
            "with rows to search"
        )
    useless = ~asked.isfinite().all(dim=1) | (asked == 0).all(dim=1)
    if bool(useless.any()):
        first = int(useless.int().argmax())
        raise ValueError(
            f"{int(useless.sum())} of {len(asked)} queries have NaN or inf, or are all zeros, "
            f"first: query {first}: they have no direction to search in"
        )
    asked = F.normalize(asked, dim=1)
    columns = asked.T.contiguous().numpy()
    scores, rows = asked.new_empty(len(asked), 0), torch.empty(len(asked), 0, dtype=torch.long)
    for start in range(0, shape[0], _BLOCK):
        block = _array(embeddings[start : start + _BLOCK], "embeddings")
        with np.errstate(invalid="ignore", over="ignore"):  # such rows are refused below
            products = block @ columns
        bad = np.flatnonzero(~np.isfinite(products).all(axis=1))
        if len(bad):
            raise ValueError(
                f"row {start + int(bad[0])} of the embeddings is not finite in float32: "
                "leave it out, or embed it again"
            )
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


def _array(rows: Any, name: str) -> npt.NDArray[np.float32]:
    """Return rows as float32, those of a mapped file without a copy."""
    if isinstance(rows, str | Path):
        raise ValueError(
            f"{name} are vectors, got {str(rows)!r}: tauten.inference.Embedded(FOLDER) opens a "
            "folder of embeddings"
        )
    if isinstance(rows, Tensor):
        rows = rows.detach().cpu().float().numpy()
    try:
        with np.errstate(over="ignore"):
            return np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, rows of one width: {error}") from error
