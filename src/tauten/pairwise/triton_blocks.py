"""Inputs of the Triton kernels: blocks of the pair matrix, and what belongs to each.

Shapes: N rows, M columns of all blocks; n rows and m columns of one block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tauten.pairwise.masks import PairMask
from tauten.pairwise.plan import Plan
from tauten.pairwise.sides import Side
from tauten.pairwise.terms import Active, Hinge, One, Scaled, Softplus, Term, Tilted

#: terms that the kernels know, and their names there
TERMS: dict[type[Term], str] = {
    Scaled: "scaled",
    Hinge: "hinge",
    Softplus: "softplus",
    Active: "active",
    Tilted: "tilted",
    One: "one",
}

#: a program's tile of S, and how many dimensions it multiplies at a time
TILE = {"ROWS": 64, "COLS": 64, "STEP": 64}

#: a program's tile of a gradient, and how many pairs it multiplies at a time
GRADIENT_TILE = {"ROWS": 64, "COLS": 128, "STEP": 64}

Name = Literal["row", "col"]


@dataclass(frozen=True)
class Part:
    """The reduction along rows, or along columns.

    Attributes:
        at: its place among the reductions.
        dim: the dimension of S that is summed away.
        term: the kernels' name of φ.
        how: ``"sum"``, ``"logsumexp"``, or ``"exponentials"`` for a sum of exp(φ).
        numbers: places of φ's numbers.
    """

    at: int
    dim: int
    term: str
    how: str
    numbers: tuple[int, ...]


def parts_of(plan: Plan) -> dict[Name, Part | None]:
    """Return the plan's reduction along rows and the one along columns."""
    parts: dict[Name, Part | None] = {"row": None, "col": None}
    for group in plan.groups:
        how = "exponentials" if group.small else group.how
        for at in group.members:
            dim = plan.dims[at]
            part = Part(at, dim, TERMS[type(group.term)], how, group.numbers)
            parts["row" if dim == 1 else "col"] = part
    return parts


@dataclass(frozen=True)
class Block:
    """A block of rows and columns of S.

    Attributes:
        rows: place of the block among all rows.
        cols: place of the block among all columns.
        own: the same columns among those at hand.
    """

    rows: slice
    cols: slice
    own: slice

    @property
    def shape(self) -> tuple[int, int]:
        """n and m."""
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start

    def along(self, dim: int) -> slice:
        """Return the rows if columns are summed away, else the columns."""
        return self.rows if dim == 1 else self.cols

    def partials(self, dim: int, like: Tensor) -> Tensor:
        """Return (tiles, n) or (tiles, m): room for what each tile gives to what remains of S."""
        n, m = self.shape
        shape = (tiles(m, TILE["COLS"]), n) if dim == 1 else (tiles(n, TILE["ROWS"]), m)
        return like.new_empty(shape, dtype=torch.float32)

    @property
    def grid(self) -> tuple[int]:
        """Number of programs that a kernel of the block's tiles has."""
        n, m = self.shape
        return (tiles(n, TILE["ROWS"]) * tiles(m, TILE["COLS"]),)


def tiles(size: int, tile: int) -> int:
    """Return the number of tiles that cover a side."""
    return -(-size // tile)


class Blocks:
    """The rows of one side with a block of columns of the other, and what kernels need of them.

    Args:
        plan: what to reduce.
        left: all rows.
        right: the columns first, first + 1, ...
        first: the first of these columns.
        numbers: of all rows and columns.
    """

    def __init__(
        self, plan: Plan, left: Side, right: Side, first: int, numbers: Sequence[Tensor]
    ) -> None:
        self.left, self.right, self.first = left, right, first
        self.tile = plan.tile
        self.parts = parts_of(plan)
        self.axes = [0 if k.shape[0] > 1 else 1 if k.shape[1] > 1 else 2 for k in numbers]
        self._numbers = [k.detach().flatten().to(torch.float32).contiguous() for k in numbers]
        self._marks = _Marks.of(plan.mask, first + len(right))
        dtype = left.vectors.dtype
        self.fused = dtype == right.vectors.dtype and dtype in (torch.bfloat16, torch.float16)

    def cut(self, reach: int) -> Iterator[Block]:
        """Yield every block, ``reach`` times as large along each side as the plan's tiles."""
        height, width = (side * reach for side in self.tile)
        for top in range(0, len(self.left), height):
            rows = slice(top, min(top + height, len(self.left)))
            for start in range(0, len(self.right), width):
                rows_of_y = slice(start, min(start + width, len(self.right)))
                yield Block(
                    rows,
                    slice(self.first + rows_of_y.start, self.first + rows_of_y.stop),
                    rows_of_y,
                )

    def room(self) -> Tensor:
        """Return the memory for one block of S, flat."""
        height, width = min(self.tile[0], len(self.left)), min(self.tile[1], len(self.right))
        return self.left.vectors.new_empty(height * width, dtype=torch.float32)

    def arguments(self, block: Block, sim: Tensor | None) -> dict[str, Any]:
        """Return the arguments that both kernels of tiles share.

        Args:
            block: the rows and columns.
            sim: (n, m) room for S, overwritten; None where no kernel reads or writes it.
        """
        n, m = block.shape
        arguments: dict[str, Any] = {
            **self._vectors(block),
            **self._marks.of_block(block),
            "n": n,
            "m": m,
            "d": self.left.vectors.shape[1],
            "sim": sim,
            "sim_stride": m,
            **TILE,
        }
        if not self.fused:
            torch.mm(self.left.rows(block.rows), self.right.rows(block.own).T, out=sim)
        for name, part in self.parts.items():
            upper = name.upper()
            arguments[f"{upper}_TERM"] = "one" if part is None else part.term
            arguments[f"{upper}_HOW"] = "sum" if part is None else part.how
            places = () if part is None else part.numbers
            for at, letter in enumerate("ab"):
                known = at < len(places)
                arguments[f"{name}_{letter}"] = self._number(places[at], block) if known else None
                arguments[f"{upper}_{letter.upper()}"] = self.axes[places[at]] if known else 2
        return arguments

    def _vectors(self, block: Block) -> dict[str, Any]:
        names = ("x", "y")
        if not self.fused:
            return {f"{name}{end}": None for name in names for end in ("", "_scale")} | {
                f"{name}_stride": 0 for name in names
            }
        arguments: dict[str, Any] = {}
        for name, side, which in (
            ("x", self.left, block.rows),
            ("y", self.right, block.own),
        ):
            vectors = dense_rows(side.vectors[which])
            arguments[name], arguments[f"{name}_stride"] = vectors, vectors.stride(0)
            arguments[f"{name}_scale"] = None if side.inverse is None else side.inverse[which]
        return arguments

    def _number(self, place: int, block: Block) -> Tensor:
        number, axis = self._numbers[place], self.axes[place]
        return number if axis == 2 else number[block.rows if axis == 0 else block.cols]


def dense_rows(vectors: Tensor) -> Tensor:
    """Return the same matrix, each row in one piece of memory."""
    return vectors if vectors.stride(1) == 1 else vectors.contiguous()


@dataclass(frozen=True)
class _Marks:
    """A mask as the kernels read it; positives are the pairs of equal labels."""

    labels: tuple[Tensor, Tensor] | None
    same: tuple[Tensor, Tensor] | None
    ignore: Tensor | None
    own: bool

    @classmethod
    def of(cls, mask: PairMask | None, columns: int) -> _Marks:
        if mask is None:
            return cls(None, None, None, False)
        labels = mask.labels
        if labels is None:
            places = torch.arange(columns, device=mask.positive.device, dtype=torch.int32)
            labels = mask.positive.to(torch.int32), places
        rows, cols = (ids.contiguous() for ids in labels)
        same = None
        if mask.same:
            first, second = zip(*mask.same, strict=True)
            same = torch.stack(first), torch.stack(second)
        return cls((rows, cols), same, mask.ignore, mask.own)

    def of_block(self, block: Block) -> dict[str, Any]:
        labels, same, ignore = self.labels, self.same, self.ignore
        if ignore is not None:
            ignore = dense_rows(ignore[block.rows, block.cols].view(torch.uint8))
        return {
            "label_x": None if labels is None else labels[0][block.rows],
            "label_y": None if labels is None else labels[1][block.cols],
            "same_x": None if same is None else same[0][:, block.rows],
            "same_y": None if same is None else same[1][:, block.cols],
            "same_x_stride": 0 if same is None else same[0].stride(0),
            "same_y_stride": 0 if same is None else same[1].stride(0),
            "ignore": ignore,
            "ignore_stride": 0 if ignore is None else ignore.stride(0),
            "SAME": 0 if same is None else len(same[0]),
            "OWN": self.own,
        }
