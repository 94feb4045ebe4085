"""Checks of what a call says of its pairs, each with the rows at fault and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from tauten.checks import few
from tauten.ids import on_device
from tauten.pairwise.exchange import Ranks
from tauten.reads import FREE, ask, waiting

#: one id vector for both sides, or one for each
Ids = Tensor | tuple[Tensor, Tensor]


def check_free(rows: int, cols: int, directions: str, *, same: bool, itself: bool) -> None:
    """Refuse what needs the positives that targets alone do not name."""
    if directions != "x2y" and not itself:
        raise ValueError(
            f"x has {rows} rows and y has {cols}, so that targets= alone make no pairs of them: "
            f"use directions='x2y' in the place of {directions!r}"
        )
    if same and not itself:
        raise ValueError(
            "same= leaves positives in, and targets= of more rows than columns name none: pass "
            "ignore="
        )


def check_times(times: Tensor, directions: str) -> None:
    """Refuse columns that cannot be the anchors that the directions make of them."""
    if directions == "x2y":
        return
    again, never = (times > 1).nonzero().squeeze(1), (times == 0).nonzero().squeeze(1)
    if len(again):
        raise ValueError(
            f"directions={directions!r} needs every row of y to be the positive of at most one row "
            f"of x, but rows {few(again.tolist())} of y are of several; use directions='x2y', "
            "or labels="
        )
    if directions == "y2x" and len(never):
        raise ValueError(
            f"rows {few(never.tolist())} of y are nobody's positive and with directions='y2x' "
            "nobody's candidate either: leave them out, or use directions='both'"
        )


class WithoutPositiveError(ValueError):
    """Anchors of this process have no positive.

    Attributes:
        rows: of the batch.
    """

    def __init__(self, message: str, rows: list[int]) -> None:
        super().__init__(message)
        self.rows = rows


def check_labelled(checks: Sequence[tuple[str, Tensor, Tensor, str]], ranks: Ranks | None) -> None:
    """Refuse anchors without a positive, on all processes if on one.

    Args:
        checks: name of the side, labels and whether there is a positive, (n,) both, and what is
            said of the lack of one.
        ranks: the processes, if there are several.
    """
    lacking = torch.stack([(~paired).sum() for _, _, paired, _ in checks]).sum()
    if ranks is not None:
        lacking = ranks.sum_(lacking)
    if not bool(lacking):
        return
    for name, labels, paired, what in checks:
        alone = (~paired).nonzero().squeeze(1)
        if len(alone):
            missing = labels[alone].unique()
            raise WithoutPositiveError(
                f"labels [{few(missing.tolist())}] of {name} have no positive{what}: rows "
                f"{few(alone.tolist())}; leave these rows out of the batch",
                alone.tolist(),
            )
    raise ValueError(
        f"labels= leave {int(lacking)} anchors of other processes without a positive: their "
        "messages name the rows"
    )


def checked_ignore(ignore: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return ``ignore=``, refused when it is no bool matrix of that shape."""
    if not isinstance(ignore, Tensor):
        raise ValueError(f"ignore must be a bool matrix {shape}, got {type(ignore).__name__}")
    if ignore.layout is not torch.strided:
        raise ValueError(f"ignore must be dense, got {ignore.layout}: pass its .to_dense()")
    if ignore.shape != shape or ignore.dtype != torch.bool:
        raise ValueError(
            f"ignore must be a bool matrix {shape}, got {ignore.dtype} {tuple(ignore.shape)}"
        )
    return ignore


def checked_positives(positives: Tensor, rows: int, cols: int, *, itself: bool) -> Tensor:
    """Return ``positives=``, refused when it names rows that y has not, or a row itself."""
    positive = vector("positives", positives, rows)
    outside = ((positive < 0) | (positive >= cols)).any()
    ask(outside, partial(_refuse_positives, positive, cols))
    if itself:
        same = positive == torch.arange(rows, device=positive.device)
        ask(same.any(), partial(_refuse_itself, same))
    if waiting() is None or positive.device.type in FREE:
        return positive
    return positive.clamp(0, max(cols - 1, 0))  # until the answer comes


def _refuse_positives(positive: Tensor, cols: int, outside: bool) -> None:
    if outside:
        raise ValueError(f"positives must be rows of y in 0 .. {cols - 1}, got {_ends(positive)}")


def _refuse_itself(same: Tensor, some: bool) -> None:
    if some:
        raise ValueError(
            f"rows {few(same.nonzero().squeeze(1).tolist())} are their own positive: name another "
            "sample of theirs"
        )


def listed(same: Sequence[Ids]) -> tuple[Ids, ...]:
    """Return the id vectors of ``same=``, refused when it is no list of them."""
    if not isinstance(same, (tuple, list)):
        raise ValueError(f"same must be id vectors, got {type(same).__name__}")
    return tuple(same)


def vector(name: str, ids: Tensor, length: int) -> Tensor:
    """Return ids (length,) as long integers, refused when they are none."""
    if not isinstance(ids, Tensor) or ids.dim() != 1 or len(ids) != length:
        shape = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"{name} must be a vector of {length} ids, got {shape}")
    if ids.is_floating_point() or ids.is_complex():
        raise ValueError(f"{name} must hold integers, got {ids.dtype}")
    return ids.long()


def id_sides(
    name: str, ids: Ids, rows: int, cols: int, device: torch.device, ranks: Ranks | None
) -> tuple[Tensor, Tensor]:
    """Return (n,) of the rows and (M,) of all columns."""
    if isinstance(ids, (tuple, list)) and len(ids) != 2:
        raise ValueError(f"{name} must be one vector, or one for each side, got {len(ids)}")
    first, second = ids if isinstance(ids, (tuple, list)) else (ids, ids)
    of_rows = on_device(vector(name, first, rows), device)
    of_cols = on_device(vector(name, second, cols), device)
    if ranks is None:
        return of_rows, of_cols
    known = ranks.known(second)
    return of_rows, ranks.gather(of_cols) if known is None else known


def ids_of_columns(same: Tensor | Sequence[Ids], labels: Ids | None, cols: int) -> list[Tensor]:
    """Return the id vectors of columns that a relation needs, without those it will refuse."""
    several = (
        [same]
        if isinstance(same, Tensor)
        else list(same)
        if isinstance(same, (tuple, list))
        else []
    )
    sides = [
        ids[-1] if isinstance(ids, (tuple, list)) and ids else ids for ids in (*several, labels)
    ]
    return [
        ids
        for ids in sides
        if isinstance(ids, Tensor)
        and ids.shape == (cols,)
        and not ids.is_floating_point()
        and not ids.is_complex()
    ]


def _ends(ids: Tensor) -> str:
    return f"{int(ids.min())} .. {int(ids.max())}"
