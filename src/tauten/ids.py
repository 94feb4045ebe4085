"""Data set positions, refused by name where they cannot be used."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tauten.checks import few
from tauten.modules import refuse_vmap
from tauten.reads import FREE, ask, waiting

#: what the integers of an argument are, where there is more to say
_KINDS = {"index": "data set positions", "y_of_x": "rows of y", "same=": "ids"}


def check_index(index: Tensor, name: str = "index") -> Tensor:
    """Check that ids are a vector of integers, and return them.

    Args:
        index: (N,).
        name: the argument that they were given as.
    """
    if not isinstance(index, Tensor) or index.dim() != 1:
        shape = tuple(index.shape) if isinstance(index, Tensor) else type(index).__name__
        raise ValueError(
            f"{name} must be a vector (N,) of {_KINDS.get(name, 'integers')}, got {shape}"
        )
    if index.dtype == torch.bool or index.is_floating_point() or index.is_complex():
        raise ValueError(f"{name} must hold integers, got {index.dtype}")
    refuse_vmap(name, index)
    return index.long()


def on_device(ids: Tensor, device: torch.device) -> Tensor:
    """Return ids on a device; a copy from main memory to a GPU does not wait for it."""
    return ids.to(device, non_blocking=ids.device.type in FREE)


def rows_at(table: Tensor, ids: Tensor, *, known: bool = False) -> Tensor:
    """Return the rows of a table at these ids, refused by name where it has none.

    Args:
        table: (N, ...).
        ids: (n,) long, on the table's device.
        known: whether it has all of them for certain.
    """
    if known:
        return table[ids]
    if table.device.type == "cpu" and not torch.compiler.is_compiling():
        try:
            return table.index_select(0, ids)  # which looks at each of them itself
        except IndexError:
            pass
    return table[check_ids(ids, len(table))]


def check_ids(index: Tensor, size: int, *, grows: bool = False) -> Tensor:
    """Check that ids have a place in a table of this size, and return them.

    Where the answer comes later, ids without a place are those of other rows until then.

    Args:
        index: (N,) long.
        size: samples in the table.
        grows: whether the table makes room for larger ids.
    """
    outside = index < 0 if grows else (index < 0) | (index >= size)
    if torch.compiler.is_compiling():  # whose graphs read no number
        torch._assert_async(~outside.any(), f"unknown sample ids: they run from 0 to {size - 1}")
        return index
    ask(outside.any(), partial(_refuse, index, outside, size))
    if waiting() is None or index.device.type in FREE:
        return index
    return index.clamp(0, None if grows else size - 1)


def _refuse(index: Tensor, outside: Tensor, size: int, unknown: bool) -> None:
    """Refuse ids without a place, if there are any."""
    if unknown:
        names = index[outside].unique().tolist()
        raise ValueError(
            f"{len(names)} unknown sample ids: {few(names)}; the table has {size} samples, "
            f"so ids run from 0 to {size - 1}"
        )


def check_stored(name: str, rows: Tensor, where: str = "what is kept") -> None:
    """Check that rows (N, d) are finite, as what is kept for later batches must be.

    Args:
        name: what they are.
        rows: (N, ...).
        where: what those that are not are to be left out of.
    """
    bad = (~torch.isfinite(rows.detach())).flatten(1).any(1).nonzero().squeeze(1)
    if len(bad):
        raise ValueError(
            f"{name} are NaN or infinite in {len(bad)} of {len(rows)} rows: {few(bad.tolist())}; "
            f"leave these out of {where}"
        )
