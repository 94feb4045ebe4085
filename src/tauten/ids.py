"""Data set positions, refused by name where they cannot be used."""

from __future__ import annotations

import torch
from torch import Tensor

from tauten.checks import few
from tauten.modules import refuse_vmap


def check_index(index: Tensor) -> Tensor:
    """Check that ids are a vector of integers, and return them."""
    if not isinstance(index, Tensor) or index.dim() != 1:
        shape = tuple(index.shape) if isinstance(index, Tensor) else type(index).__name__
        raise ValueError(f"index must be a vector (N,) of data set positions, got {shape}")
    if index.dtype == torch.bool or index.is_floating_point() or index.is_complex():
        raise ValueError(f"index must hold integers, got {index.dtype}")
    refuse_vmap("index", index)
    return index.long()


def check_ids(index: Tensor, size: int, *, grows: bool = False) -> Tensor:
    """Check that ids have a place in a table of this size, and return them.

    Args:
        index: (N,) long.
        size: samples in the table.
        grows: whether the table makes room for larger ids.
    """
    outside = index < 0 if grows else (index < 0) | (index >= size)
    if torch.compiler.is_compiling():  # whose graphs read no number
        torch._assert_async(~outside.any(), f"unknown sample ids: they run from 0 to {size - 1}")
        return index
    if bool(outside.any()):
        names = index[outside].unique().tolist()
        raise ValueError(
            f"{len(names)} unknown sample ids: {few(names)}; the table has {size} samples, "
            f"so ids run from 0 to {size - 1}"
        )
    return index
