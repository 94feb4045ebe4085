"""Rows of a batch that agree in an id, looked up where a read makes nobody wait."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from tauten.ids import on_device
from tauten.pairwise.exchange import Ranks
from tauten.reads import FREE
from tauten.relations.checks import Ids, id_sides, vector

#: the two sides of id vectors, (n,) and (M,)
Sides = tuple[tuple[Tensor, Tensor], ...]


def looked_up(
    same: Sequence[Ids], rows: int, cols: int, device: torch.device, ranks: Ranks | None
) -> tuple[Sides, Tensor | None]:
    """Return what ``same=`` leaves out where row i and column i are pairs.

    Returns:
        The vectors without those of which no two ids are equal, over processes those of all
        columns; and the places i·N + j of all pairs that they leave out, (K,) long, where these are
        known and so few that each anchor has a negative, else None.
    """
    sides: list[tuple[Tensor, Tensor]] = []
    agreeing: list[list[int] | None] = []
    for ids in same:
        places = both = None
        if isinstance(ids, Tensor) and ranks is None:
            places = _agreeing(vector("same", vector("same", ids, rows), cols))
        else:
            both = id_sides("same", ids, rows, cols, device, ranks)
            places = _agreeing(both[1]) if isinstance(ids, Tensor) else None
        agreeing.append(places)
        if places != []:
            sides.append(both or id_sides("same", ids, rows, cols, device, ranks))
    known = {place for places in agreeing for place in places or ()}
    if ranks is not None or None in agreeing or not 0 < len(known) < rows - 1:
        return tuple(sides), None
    return tuple(sides), on_device(torch.tensor(sorted(known)), device)


def _agreeing(ids: Tensor) -> list[int] | None:
    """Return the places i·N + j of equal ids, i != j; None if unknown, or as many as ids."""
    if ids.device.type not in FREE or torch.compiler.is_compiling():
        return None
    values = ids.tolist()
    size = len(values)
    if len(set(values)) == size:
        return []
    rows = defaultdict(list)
    for row, value in enumerate(values):
        rows[value].append(row)
    equal = [places for places in rows.values() if len(places) > 1]
    if sum(len(places) * (len(places) - 1) for places in equal) > size:
        return None
    return [i * size + j for places in equal for i in places for j in places if i != j]
