"""Messages among all processes of the default group: how they are sent, and what rides along.

A message costs a process about as much as a thousand rows, whatever is in it, so that what leaves
at the same time leaves together.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

# torch 2.13 renames it
_all_gather = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor

#: () whether there is a group of processes, perhaps of one
grouped: Callable[[], bool] = getattr(distributed, "is_initialized", bool)


def several_processes() -> bool:
    """Return whether this process is one of a group."""
    return grouped() and distributed.get_world_size() > 1


def own_device() -> torch.device:
    """Return the device whose tensors the group sends, where there is no tensor to ask."""
    if distributed.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def raw(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, one after the other; a view where its numbers lie so."""
    flat = tensor.detach().contiguous().reshape(-1)
    if flat.stride(0) != 1:  # one number, expanded, counts as contiguous
        flat = flat.as_strided(flat.shape, (1,))
    return flat.view(torch.uint8)


def row_bytes(tensor: Tensor) -> int:
    """Return the bytes of one row of (n, ...)."""
    return math.prod(tensor.shape[1:]) * tensor.element_size()


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Return (n, b) uint8 the bytes of tensors (n, ...) of equal length, row by row."""
    return torch.cat([raw(part).view(len(part), row_bytes(part)) for part in parts], dim=1)


def apart(rows: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors (M, ...) of which :func:`side_by_side` made (M, b), of the types of these."""
    widths = [row_bytes(part) for part in parts]
    return [
        of_part.reshape(-1).view(like.dtype).view(len(rows), *like.shape[1:])
        for of_part, like in zip(rows.split(widths, dim=1), parts, strict=True)
    ]


def gather_equal(shard: Tensor) -> Tensor:
    """Return (W, ...) the tensors of all processes, which have the shape of this one's."""
    size = distributed.get_world_size()
    whole = shard.new_empty(size, *shard.shape)
    if distributed.get_backend() == "gloo":  # several times cheaper than its all-gather
        distributed.all_to_all_single(raw(whole), raw(shard).repeat(size))
    else:
        _all_gather(whole.view(-1), shard.contiguous().view(-1))
    return whole


def gather_small(shard: Tensor, counts: Sequence[int]) -> Tensor:
    """Return (sum of counts, ...) from (n, ...) of each process, by one message of gloo."""
    whole, width = shard.new_empty(sum(counts), *shard.shape[1:]), row_bytes(shard)
    if whole.numel():
        going = raw(shard).repeat(len(counts))
        sizes = [count * width for count in counts]
        distributed.all_to_all_single(raw(whole), going, sizes, [len(shard) * width] * len(counts))
    return whole


def deal(whole: Tensor, counts: Sequence[int]) -> Tensor:
    """Return (W, n, ...) what each process has for this one.

    Args:
        whole: (sum of counts, ...) what this one has for each, one after the other.
        counts: rows of each process, n of this one.
    """
    size, n = len(counts), counts[distributed.get_rank()]
    parts = whole.new_empty(size * n, *whole.shape[1:])
    distributed.all_to_all_single(parts, whole.contiguous(), [n] * size, list(counts))
    return parts.view(size, n, *whole.shape[1:])


class Ragged:
    """Whole numbers of all processes, of which none knows how many rows the others have.

    The message has room for as many numbers as were needed before, so that there is a second one
    only where more have come; its size is the same on all, whatever each of them has to tell. All
    processes gather by the same one.
    """

    def __init__(self) -> None:
        self.room = 0
        #: whether the last batch was small, so that the next one's rows leave with its sizes
        self.small = False

    def gather(
        self, head: Tensor, rows: Tensor, check: Callable[[list[list[int]]], None] | None = None
    ) -> tuple[list[list[int]], list[Tensor]]:
        """Return the heads and the rows of all processes.

        Args:
            head: (h,) long, what is to be known beside the rows.
            rows: (n, k) long.
            check: called with the heads of all, before rows are taken for rows of one kind.

        Raises:
            ValueError: on all processes, where k is not the same.
        """
        count, width = rows.shape
        numbers, room = rows.reshape(-1), self.room
        sizes = torch.tensor([count, width], device=head.device)
        whole = gather_equal(torch.cat([sizes, head, _padded(numbers, room)]))
        start = 2 + len(head)
        starts: list[list[int]] = whole[:, :start].tolist()
        heads = [one[2:] for one in starts]
        if check is not None:
            check(heads)
        widths = [one[1] for one in starts]
        if min(widths) != max(widths):
            raise ValueError(f"processes tell each other rows of different widths: {widths}")
        counts = [one[0] for one in starts]
        needed = max(counts) * width
        self.room = max(needed, room // 2)
        body = whole[:, start:] if needed <= room else gather_equal(_padded(numbers, self.room))
        return heads, [
            part[: n * width].view(n, width) for part, n in zip(body, counts, strict=True)
        ]


def _padded(numbers: Tensor, room: int) -> Tensor:
    """Return (room,) the numbers and zeros; zeros alone where there is no room for them."""
    if len(numbers) == room:
        return numbers
    padded = numbers.new_zeros(room)
    if len(numbers) < room:
        padded[: len(numbers)] = numbers
    return padded


class _Here(threading.local):
    def __init__(self) -> None:
        self.riders: list[tuple[Tensor, Callable[[list[bool]], None]]] = []


_HERE = _Here()


@contextmanager
def riding(flags: Tensor, then: Callable[[list[bool]], None]) -> Iterator[None]:
    """Tell all processes of some flags, with the next message of sizes or after the block.

    All processes call together.

    Args:
        flags: (k,) bool.
        then: called on each process with which of the flags any process has set.
    """
    before = len(_HERE.riders)
    _HERE.riders.append((flags, then))
    try:
        yield
    except BaseException:
        del _HERE.riders[before:]
        raise
    if len(_HERE.riders) > before:
        taken = board()
        raised = taken.flags.int()
        distributed.all_reduce(raised, distributed.ReduceOp.MAX)
        taken.arrive([raised.tolist()])


class Riders:
    """Flags that a message carries.

    Attributes:
        flags: (k,) of this process, of all that wait for a message.
    """

    def __init__(self, waiting: list[tuple[Tensor, Callable[[list[bool]], None]]]) -> None:
        self._waiting = waiting
        flags = [flags for flags, _ in waiting]
        self.flags = torch.cat(flags) if flags else torch.zeros(0, dtype=torch.bool)

    def arrive(self, of_each: Sequence[Sequence[int]]) -> None:
        """Call what waits, with the flags (k,) of each process."""
        flags = [any(column) for column in zip(*of_each, strict=True)]
        for part, then in self._waiting:
            then(flags[: len(part)])
            flags = flags[len(part) :]


def board() -> Riders:
    """Take the flags that wait for a message."""
    waiting, _HERE.riders = _HERE.riders, []
    return Riders(waiting)
