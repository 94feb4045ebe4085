"""The shift of MM-TS: a value that grows with the size of the sample's cluster."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import cast

import torch
from torch import Tensor

from tauten.controls.anchors import Anchors, Direction
from tauten.controls.base import Range, finite
from tauten.controls.fingerprint import OfData
from tauten.ids import check_index, rows_at
from tauten.pairwise.numbers import Number

_SCALES = {"linear": lambda n: n, "log": torch.log, "sqrt": torch.sqrt}


#: counts of one side, and of one or both
OneSide = Tensor | Sequence[int]
Counts = OneSide | tuple[OneSide, OneSide]


class ClusterShift(OfData):
    """A value that grows with the size of the sample's cluster: rare → low, dense → high.

    sh(n) = low + (f(n) − f(n_min)) / (f(n_max) − f(n_min)) · (high − low)

    with f the identity (``"linear"``, as published), log or square root, and n_min, n_max the
    smallest and largest count given. Counts that are all equal say nothing of density: then every
    sample has the middle of the range. Individual cluster shift of MM-TS (WACV 2026).

    Args:
        counts: (num_samples,) size of each sample's cluster or class, >= 1, by data set index; or a
            pair (counts of x, counts of y) where the sides have ids of their own. n_min and n_max
            are then those of both, so that equal counts have equal values on either side.
        low: value of the rarest.
        high: value of the densest.
        scale: ``"linear"``, ``"log"`` or ``"sqrt"``.

    Raises:
        ValueError: counts that are empty, below 1 or not finite; low > high; an unknown scale; an
            id outside the table; a ``state_dict`` made with other counts.
    """

    granularity = "anchor"
    needs_index = True
    follows_steps = False
    shift: Tensor
    shift_of_y: Tensor | None

    def __init__(self, counts: Counts, low: float, high: float, scale: str = "linear") -> None:
        super().__init__()
        self.low, self.high = finite("low", low), finite("high", high)
        if low > high:
            raise ValueError(f"ClusterShift needs low <= high, got low={low} > high={high}")
        if not isinstance(scale, str) or scale not in _SCALES:
            raise ValueError(f"scale must be one of {sorted(_SCALES)}, got {scale!r}")
        self.scale = scale
        self.two_sided = _is_pair(counts)
        given = cast(tuple[OneSide, ...], counts if self.two_sided else (counts,))
        sides = [_checked(side) for side in given]
        size = _SCALES[scale](torch.cat(sides))
        spread = size.max() - size.min()
        share = (size - size.min()) / spread if spread > 0 else torch.full_like(size, 0.5)
        # float64 stays in main memory, since not every device has it
        exact = self.low + share * (self.high - self.low)
        self._exact: tuple[Tensor, ...] = exact.split([len(side) for side in sides])
        of_x, *of_y = (side.to(torch.get_default_dtype()) for side in self._exact)
        self.register_buffer("shift", of_x.clone(), persistent=False)
        self.register_buffer("shift_of_y", of_y[0].clone() if of_y else None, persistent=False)
        lengths = [torch.tensor([float(len(of_x))], dtype=torch.float64)] if of_y else []
        self._fingerprint(torch.cat(sides + lengths))

    def values(self, index: Tensor, step: int) -> Tensor:
        return self._look_up(index, "x2y")

    def side(self, index: Tensor, direction: Direction) -> Tensor:
        return self._look_up(check_index(index), direction)

    @property
    def by_id(self) -> bool:
        return not self.two_sided

    @property
    def of_ids(self) -> bool:
        return True

    def on(self, anchors: Anchors) -> Number:
        return self._look_up(anchors.index, anchors.direction, anchors.dtype)

    def _look_up(
        self, index: Tensor, direction: Direction, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return (n,) values, those of float64 where that or the module is float64."""
        of_y = self.shift_of_y if direction == "y2x" else None
        table = self.shift if of_y is None else of_y
        if torch.float64 in (dtype, table.dtype):
            return rows_at(self._exact[0 if of_y is None else 1], index.cpu()).to(index.device)
        return rows_at(table, index.to(table.device)).to(index.device)

    def range(self) -> Range:
        return self.low, self.high

    def _foreign(self, numbers: int) -> str:
        return (
            f"this state was saved with the cluster counts of another data set: "
            f"{numbers} samples there, {self._size()} here, or other counts; "
            "build ClusterShift from the counts that it was trained with"
        )

    def _size(self) -> str:
        size = str(len(self.shift))
        return size if self.shift_of_y is None else f"{size} + {len(self.shift_of_y)}"

    def __repr__(self) -> str:
        return (
            f"ClusterShift({self._size()} samples, {self.low:g}, {self.high:g}, "
            f"scale={self.scale!r})"
        )


def _is_pair(counts: Counts) -> bool:
    """Return whether these are counts of both sides: a tuple of two vectors."""
    if not isinstance(counts, tuple) or len(counts) != 2:
        return False
    return all(hasattr(side, "__len__") and getattr(side, "shape", (1,)) != () for side in counts)


def _checked(counts: OneSide) -> Tensor:
    """Return the counts of one side as a vector of float64, or refuse them."""
    try:
        if isinstance(counts, (str, bytes)):
            raise TypeError("text is no numbers")
        numbers = torch.as_tensor(counts).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            "counts must be a vector (num_samples,) of numbers, or (counts of x, counts of y), "
            f"got {type(counts).__name__}: {error}"
        ) from error
    if numbers.dim() != 1 or len(numbers) == 0:
        raise ValueError(
            f"counts must be a vector (num_samples,), got shape {tuple(numbers.shape)}"
        )
    if numbers.is_complex() or numbers.dtype == torch.bool:
        raise ValueError(f"counts must be numbers of samples, got {numbers.dtype}")
    numbers = numbers.to(torch.float64)
    bad = (~(numbers >= 1) | numbers.isinf()).nonzero()
    if len(bad):
        at = int(bad[0])
        raise ValueError(
            f"counts must be finite and >= 1 (a sample is in its own cluster), "
            f"but {len(bad)} are not: counts[{at}] = {float(numbers[at]):g}"
        )
    return numbers


def shuffled_counts(counts: Tensor, classes: Sequence[Hashable], seed: int = 0) -> Tensor:
    """Return the counts with the sizes of classes exchanged at random,
    the control of a density effect.

    All samples of a class get the size of one class, drawn without replacement. If a shift by these
    does as well as one by the true sizes, density was not the cause.

    Args:
        counts: (num_samples,) size of each sample's class.
        classes: (num_samples,) the class of each sample.
        seed: seed of the permutation.

    Returns:
        (num_samples,) of the type of ``counts``.

    Raises:
        ValueError: unequal lengths, or samples of one class with different counts.
    """
    if len(counts) != len(classes):
        raise ValueError(f"{len(counts)} counts for {len(classes)} classes: give one per sample")
    position: dict[Hashable, int] = {}
    member = torch.tensor([position.setdefault(name, len(position)) for name in classes])
    size = torch.zeros(len(position), dtype=counts.dtype).index_copy(0, member, counts)
    mixed = (size[member] != counts).nonzero()
    if len(mixed):
        at = int(mixed[0])
        raise ValueError(
            f"samples of class {classes[at]!r} have different counts, such as "
            f"{float(counts[at]):g} and {float(size[member][at]):g}: give the size of the class"
        )
    drawn = torch.randperm(len(size), generator=torch.Generator().manual_seed(seed))
    return size[drawn][member]
