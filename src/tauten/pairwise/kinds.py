"""The kind of input that each process gives to one loss, told before its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: types of embeddings that processes may have
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Kind(NamedTuple):
    """The kind of input that a process gives to a loss, in whole numbers.

    Attributes:
        width: of the embeddings.
        dtype: place of their type in :data:`DTYPES`.
        pooled: whether they may be pooled, which asks for embeddings and ids alone.
        named: whether pooled ones have data set positions.
    """

    width: int = 0
    dtype: int = 0
    pooled: int = 0
    named: int = 0

    @classmethod
    def of(cls, x: Tensor, *, pooled: bool, named: bool = False) -> Kind:
        """Return the kind of embeddings (n, d)."""
        return cls(x.shape[1], DTYPES.index(x.dtype), int(pooled), int(named))


def check_kinds(heads: Sequence[Sequence[int]]) -> None:
    """Refuse heads [rows, note, *kind, ids, ...] of processes whose input differs."""
    end = 2 + len(Kind._fields)
    kinds = [(Kind(*head[2:end]), head[end]) for head in heads]
    if len(set(kinds)) == 1:
        return
    lines = []
    for rank, (kind, ids) in enumerate(kinds):
        rows = f"process {rank} gives {DTYPES[kind.dtype]} rows of width {kind.width}"
        if kind.pooled:
            names = ids - kind.named
            rows += f", {'with' if kind.named else 'without'} index= and {names} vectors of same="
        else:
            rows += ", with another relation, or ids that are no vector of one integer a row"
        lines.append(rows)
    raise ValueError(
        "processes give one loss inputs of different kinds, which it cannot compare: "
        f"{'; '.join(lines)}. Pass the same keywords, widths and types on all"
    )
