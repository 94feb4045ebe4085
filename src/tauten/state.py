"""Per-sample state keyed by data set index, saved with the model.

Shapes: N samples of the data set, n rows of a batch, C columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from tauten.checks import MOST, few, whole
from tauten.ids import check_ids, rows_at
from tauten.modules import StateModule, check_state, full_precision

__all__ = ["SampleTable"]


class Prefetched(NamedTuple):
    """Rows that :meth:`SampleTable.prefetch` has fetched.

    Attributes:
        ids: (n,) long, on the table's device.
        rows: (n, C), on the device of the coming read.
        seen: (n,) bool, on the device of the coming read.
    """

    ids: Tensor
    rows: Tensor
    seen: Tensor


class SampleTable(StateModule):
    """Numbers for each sample of a data set: moving averages, temperatures, their momentum.

    Values and visit counts are buffers, so they are in ``state_dict()`` and a resume continues
    with the same bits. A table sized up front refuses a state of another size; a table that grows
    takes whatever size was saved. Reading and writing cost the rows of the call, whatever the size.

    ``.double()`` of the module makes the values float64. ``.half()`` and ``.bfloat16()`` leave them
    float32, since small updates would be lost; visits stay int32.

    Args:
        size: number of samples, or None to grow to the largest id written.
        columns: name of each column and the value of a sample that was never written.
        device: ``"cpu"`` keeps the table in main memory when the module is moved, for data sets
            larger than a GPU's memory; None moves it with the module.

    Raises:
        ValueError: a size below 1, no columns, another device, an unknown id, a state of another
            data set.
    """

    values: Tensor
    visits: Tensor

    def __init__(
        self,
        size: int | None,
        columns: Mapping[str, float],
        device: Literal["cpu"] | None = None,
    ) -> None:
        super().__init__()
        if size is not None and whole("size", size, -MOST) < 1:
            raise ValueError(f"a table needs at least 1 sample, got {size}")
        if not isinstance(columns, Mapping) or not columns:
            raise ValueError("a table needs at least one column")
        if device not in (None, "cpu"):
            raise ValueError(
                f'a table is kept on device="cpu", or moves with its module (None), got {device!r}'
            )
        self.fixed = size is not None
        self.columns = tuple(columns)
        self._initial = tuple(float(value) for value in columns.values())
        self._device = device
        self._ahead: Prefetched | None = None
        self.register_buffer("values", torch.zeros(0, len(columns), device=device))
        self.register_buffer("visits", torch.zeros(0, dtype=torch.int32, device=device))
        self._resize(size or 0)

    def __len__(self) -> int:
        return len(self.visits)

    def read(self, ids: Tensor, *, known: bool = False) -> dict[str, Tensor]:
        """Return the columns of these samples.

        Args:
            ids: (n,) long.
            known: whether the table has them for certain, so that they need no look.

        Returns:
            For each column (n,) on the device of ``ids``; the initial value where a growing table
            has not met the sample.
        """
        place = ids.to(self.values.device)
        ahead = self._fetched(place, ids.device)
        rows = self._rows(place, known).to(ids.device) if ahead is None else ahead.rows.clone()
        return {name: rows[:, c] for c, name in enumerate(self.columns)}

    def seen(self, ids: Tensor) -> Tensor:
        """Return (n,) bool, whether each sample has been written before."""
        place = ids.to(self.values.device)
        ahead = self._fetched(place, ids.device)
        return self._visited(place).to(ids.device) if ahead is None else ahead.seen.clone()

    def visit(self, ids: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return what :meth:`read` and :meth:`seen` return."""
        return self.read(ids), self.seen(ids)

    def write(self, ids: Tensor, values: Mapping[str, Tensor], *, known: bool = False) -> None:
        """Set columns of these samples and count the visit.

        Args:
            ids: (n,) long, each at most once.
            values: (n,) for each column to set.
            known: as for :meth:`read`.
        """
        place = ids.to(self.values.device)
        if not self.fixed and len(place):
            self._grow(int(check_ids(place, len(self), grows=True).max()) + 1)
        if self._ahead is not None and bool(torch.isin(place, self._ahead.ids).any()):
            self._ahead = None
        visits = rows_at(self.visits, place, known=known) + 1
        if values.keys() != set(self.columns):
            unknown = [name for name in values if name not in self.columns]
            if unknown:
                raise ValueError(f"no column {few(unknown)}: the table has {few(self.columns)}")
            values = {**self.read(ids), **values}
        rows = torch.stack([values[name] for name in self.columns], dim=1)
        self.values.index_copy_(0, place, rows.to(self.values))
        self.visits.index_copy_(0, place, visits)

    def prefetch(self, ids: Tensor, to: torch.device | str | None = None) -> None:
        """Start to bring the rows of these samples to a device, for the next reads of these ids.

        :meth:`read` and :meth:`seen` with the same ids on that device then use what was brought,
        and return what they return without it. From main memory to a CUDA device the copy runs
        beside the device's work. The latest prefetch replaces one before it; a write to one of its
        samples, a loaded state and a moved module drop it. Assignments to ``values`` or ``visits``
        themselves go unnoticed.

        Args:
            ids: (n,) long, best on the table's device.
            to: device of the coming reads; None for the table's own.

        Raises:
            ValueError: an unknown id.
        """
        place = ids.to(self.values.device).clone()
        device = self.values.device if to is None else torch.device(to)
        rows, visited = self._rows(place), self._visited(place)
        self._ahead = Prefetched(place, send(rows, device), send(visited, device))

    def _rows(self, place: Tensor, known: bool = False) -> Tensor:
        if self.fixed:
            return rows_at(self.values, place, known=known)
        check_ids(place, len(self), grows=True)
        if not len(self):
            return self._blank(len(place))
        rows = self.values[place.clamp(0, len(self) - 1)]
        return rows.where((place < len(self)).unsqueeze(1), self._blank(1))

    def _visited(self, place: Tensor) -> Tensor:
        if self.fixed:
            return rows_at(self.visits, place) > 0
        there = check_ids(place, len(self), grows=True) < len(self)
        if not len(self):
            return there
        return there & (self.visits[place.clamp(0, len(self) - 1)] > 0)

    def _fetched(self, place: Tensor, device: torch.device) -> Prefetched | None:
        """Return the prefetched rows if they are of these samples and on this device, else None."""
        ahead = self._ahead
        if ahead is None or ahead.rows.device != device or not torch.equal(ahead.ids, place):
            return None
        receive(ahead.rows)
        receive(ahead.seen)
        return ahead

    def _blank(self, size: int) -> Tensor:
        return self.values.new_tensor(self._initial).repeat(size, 1)

    def _resize(self, size: int) -> None:
        """Resize the table to this many samples, none of them written."""
        try:
            self.values, self.visits = self._blank(size), self.visits.new_zeros(size)
        except RuntimeError as error:
            per_row = self.values.element_size() * len(self.columns) + self.visits.element_size()
            remedy = 'keep it in main memory, device="cpu", ' if self.values.is_cuda else ""
            raise MemoryError(
                f"a table of {size:,} samples takes {size * per_row / 2**30:,.1f} GiB on "
                f"{self.values.device}, and there is not as much: {remedy}take a loss without a "
                "table, or if the data set is smaller check the ids, which must be positions in "
                f"it, 0 to N - 1 (torch: {str(error).splitlines()[0]:.160})"
            ) from error

    def _grow(self, size: int) -> None:
        met = len(self)
        if size > met:
            values, visits = self.values, self.visits
            self._resize(max(size, 2 * met))
            self.values[:met], self.visits[:met] = values, visits

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SampleTable:
        """Move and convert, but keep visits int32 and a table placed on the CPU there."""
        self._ahead = None
        fn = full_precision(fn)
        asked = fn(self.values.new_empty(0))
        if self._device is None or asked.device.type == self._device:
            super()._apply(fn, recurse)
            self.visits = self.visits.int()
        else:
            self.values = self.values.to(asked.dtype)
        return self

    def refuse(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        saved = state_dict.get(f"{prefix}visits")
        if self.fixed and saved is not None and len(saved) != len(self):
            raise ValueError(
                f"this state was saved for a data set of {len(saved)} samples, "
                f"the table has {len(self)}"
            )

    def growing(self) -> Sequence[str]:
        return () if self.fixed else ("values", "visits")

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        check_state(self, state_dict, prefix)
        saved = state_dict.get(f"{prefix}visits")
        if saved is not None and len(saved) != len(self):
            self._resize(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._ahead = None
        if self._device is not None:
            self.values, self.visits = self.values.to(self._device), self.visits.to(self._device)


@functools.cache
def side_stream(index: int) -> torch.cuda.Stream:
    """Return the stream on which prefetched rows travel to this CUDA device."""
    return torch.cuda.Stream(index)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Send the tensor to a device; from main memory to a CUDA device it is still on its way."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    index = torch.cuda.current_device() if device.index is None else device.index
    with torch.cuda.stream(side_stream(index)):
        return tensor.pin_memory().to(f"cuda:{index}", non_blocking=True)


def receive(tensor: Tensor) -> None:
    """Let the current stream of the tensor's device use what :func:`send` has sent."""
    if tensor.device.type == "cuda":
        stream = torch.cuda.current_stream(tensor.device)
        stream.wait_stream(side_stream(tensor.device.index))
        tensor.record_stream(stream)
