"""Correspondence of two sides: a ragged list of positives per query, checked on entry.

Shape suffixes: N queries on side x, M on side y, P matching pairs, d embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tauten.evaluation.checks import tensor
from tauten.pairwise.sides import within_range

SHOWN = 5


@dataclass(frozen=True)
class Correspondence:
    """The matching pairs, stored query by query.

    Attributes:
        offsets: (N + 1,) long; query i owns pairs ``offsets[i]:offsets[i + 1]``.
        targets: (P,) long; the matching candidate of each pair, in 0..M-1.
        candidates: M, the number of candidates.
    """

    offsets: Tensor
    targets: Tensor
    candidates: int

    @property
    def queries(self) -> int:
        """N, the number of queries."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """(N,) long: number of matches of each query."""
        return self.offsets.diff()

    @property
    def owners(self) -> Tensor:
        """(P,) long: the query that owns each pair."""
        return torch.arange(self.queries).repeat_interleave(self.lengths)

    def inverse(self) -> Correspondence:
        """Return the same pairs seen from the candidates."""
        order = torch.argsort(self.targets, stable=True)
        lengths = torch.bincount(self.targets, minlength=self.candidates)
        return Correspondence(_offsets(lengths), self.owners[order], self.queries)

    def require_complete(self, side: str, direction: str) -> None:
        """Raise ``ValueError`` if a query has no match at all."""
        empty = (self.lengths == 0).nonzero().flatten()
        if len(empty):
            raise ValueError(
                f"{len(empty)} of {self.queries} {side} have no match in y_of_x and cannot be "
                f"queries of {direction} ({side} {name_some(empty)}): drop them, or leave "
                f'{direction} out of directions=("x2y", "y2x")'
            )


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])


def name_some(items: Tensor | Sequence[Any]) -> str:
    """Return the first few items, comma separated, with dots if there are more."""
    shown = items[:SHOWN].tolist() if isinstance(items, Tensor) else list(items[:SHOWN])
    return ", ".join(str(item) for item in shown) + (", ..." if len(items) > SHOWN else "")


def correspondence(y_of_x: Any, n: int, m: int) -> Correspondence:
    """Read a correspondence list.

    Args:
        y_of_x: For each of the n x the list of its y's (any of 0..m-1, each at most once), or an
            integer vector (n,) if each x has exactly one.
        n: Number of x.
        m: Number of y.

    Raises:
        ValueError: Wrong length, not integer, out of range, or the same y twice for one x.
    """
    rows = y_of_x.detach().cpu() if isinstance(y_of_x, Tensor) else y_of_x
    if isinstance(rows, (str, dict)) or not hasattr(rows, "__len__"):
        raise ValueError(
            f"y_of_x must be a list of the y's of each x, or an integer vector, not {rows!r}"
        )
    if isinstance(rows, Tensor) and not rows.ndim:
        raise ValueError("y_of_x must be one vector, not a single number")
    if len(rows) != n:
        raise ValueError(f"y_of_x has {len(rows)} entries for {n} x: give one entry per row of x")
    if isinstance(rows, Tensor) or not any(hasattr(row, "__len__") for row in rows):
        flat = tensor(rows, "y_of_x")
        if flat.ndim != 1:
            raise ValueError(
                f"y_of_x as a tensor must be one vector, not of shape {tuple(flat.shape)}: "
                "for several y per x give a list of lists"
            )
        lengths = torch.ones(n, dtype=torch.long)
    else:
        parts = [tensor(row, f"y_of_x[{i}]").flatten() for i, row in enumerate(rows)]
        lengths = torch.tensor([len(part) for part in parts], dtype=torch.long)
        filled = [part for part in parts if len(part)]
        flat = torch.cat(filled) if filled else torch.zeros(0, dtype=torch.long)
    if flat.is_floating_point() or flat.is_complex() or flat.dtype == torch.bool:
        raise ValueError(f"y_of_x must hold integer positions in y, not {flat.dtype}")
    pairs = Correspondence(_offsets(lengths), flat.long(), m)
    _check_pairs(pairs)
    return pairs


def _check_pairs(pairs: Correspondence) -> None:
    owners, m = pairs.owners, pairs.candidates
    bad = ((pairs.targets < 0) | (pairs.targets >= m)).nonzero().flatten()
    if len(bad):
        where = [f"y_of_x[{owners[i]}] has {pairs.targets[i]}" for i in bad[:SHOWN].tolist()]
        raise ValueError(f"{len(bad)} entries of y_of_x lie outside 0..{m - 1}: {'; '.join(where)}")
    code = (owners * m + pairs.targets).sort().values
    repeated = code[1:][code.diff() == 0]
    if len(repeated):
        first = int(repeated[0])
        raise ValueError(
            f"y_of_x[{first // m}] lists y {first % m} more than once: list each y once per x"
        )


def require_matrix(rows: Tensor, name: str) -> None:
    """Refuse anything but a non-empty (rows, d) float matrix."""
    if rows.ndim != 2 or not rows.is_floating_point() or 0 in rows.shape:
        raise ValueError(
            f"{name} must be a non-empty float matrix (rows, d), not {rows.dtype} "
            f"of shape {tuple(rows.shape)}"
        )


def require_finite(finite: Tensor, name: str) -> None:
    """Refuse rows, by name, that are not finite: (rows,) bool says which are."""
    bad = (~finite).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"{name} has NaN or inf in {len(bad)} of {len(finite)} rows: {name_some(bad)}"
        )


def require_alike(x: Tensor, y: Tensor) -> None:
    """Refuse sides of different widths d or devices."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x has width {x.shape[1]} but y has width {y.shape[1]}: both must be projected to "
            "the same d"
        )
    if x.device != y.device:
        raise ValueError(f"x is on {x.device} but y on {y.device}: move one of them")


def embeddings(x: Any, name: str, normalize: bool) -> Tensor:
    """Check one side's embeddings and bring them to float32 or float64, normalised if asked.

    Raises:
        ValueError: Not a non-empty (rows, d) float matrix, or NaN or inf in it (rows are named).
    """
    rows = tensor(x, name)
    require_matrix(rows, name)
    require_finite(rows.isfinite().all(dim=1), name)
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return unit(rows) if normalize else rows


def unit(rows: Tensor) -> Tensor:
    """Return rows scaled to length 1, whatever their length; rows of zeros stay as they are."""
    return functional.normalize(within_range(rows), dim=1)


def rounding(norms: Tensor) -> Tensor:
    """Return how far dot products may be off by rounding, given the products of their norms."""
    return 8 * torch.finfo(norms.dtype).eps * norms


def sides(x: Any, y: Any, normalize: bool) -> tuple[Tensor, Tensor]:
    """Return both sides' embeddings, checked against each other.

    Raises:
        ValueError: See :func:`embeddings`; also unequal widths d or devices.
    """
    x, y = embeddings(x, "x", normalize), embeddings(y, "y", normalize)
    require_alike(x, y)
    dtype = torch.promote_types(x.dtype, y.dtype)
    return x.to(dtype), y.to(dtype)


def propagate(groups: Sequence[str], pairs: Correspondence, argument: str) -> list[str]:
    """Give each candidate the group of the queries that match it.

    Args:
        groups: One name per query.
        pairs: Queries to candidates, each candidate with at least one query.
        argument: Name of the argument that resolves a conflict, for the message.

    Raises:
        ValueError: A candidate's queries are of different groups.
    """
    group_of_y: list[str | None] = [None] * pairs.candidates
    for owner, target in zip(pairs.owners.tolist(), pairs.targets.tolist(), strict=True):
        if group_of_y[target] not in (None, groups[owner]):
            raise ValueError(
                f"y {target} matches x of different groups ({group_of_y[target]!r} and "
                f"{groups[owner]!r}): say which it is with {argument}="
            )
        group_of_y[target] = groups[owner]
    return [name for name in group_of_y if name is not None]
