"""The queue of MoCo: keys of earlier batches, as further candidates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from tauten.candidates.keys import Keys
from tauten.checks import MOST, flag, whole
from tauten.ids import check_index
from tauten.pairwise.exchange import Ranks, several_processes

_NOBODY = -1


class KeyQueue(nn.Module):
    """The last ``size`` keys with their ids, first in, first out; all of it is in a checkpoint.

    ::

        keys, key_ids = queue.candidates(k, index)           # (N + queued, d): the batch first
        pairs = torch.arange(len(q))                         # k[i] is the key of q[i]
        loss = loss_fn(q, keys, (index, key_ids), positives=pairs, same=[(index, key_ids)])
        queue.push(k, index)

    with a loss of ``directions="x2y"``; ``same=`` leaves earlier keys of an anchor's own sample
    out. Over several processes each has a queue of its own keys, and losses join them; with
    ``shared=True`` all have one queue of everybody's keys, so that it may be loaded on any number
    of processes, and each gives its share of them to the loss.

    Args:
        size: keys that are kept.
        dim: width d of a key.
        ids: id vectors that each key has; with 1 ``index`` is (N,), with more (N, ids).
        shared: whether all processes have the same keys; all push together then.

    Raises:
        ValueError: a size, width or number of ids below 1.
    """

    _keys: Tensor
    _ids: Tensor
    _pushed: Tensor

    def __init__(self, size: int, dim: int, *, ids: int = 1, shared: bool = False) -> None:
        super().__init__()
        if whole("size", size, -MOST) < 1 or whole("dim", dim, -MOST) < 1:
            raise ValueError(f"size and dim must be at least 1, got {size} and {dim}")
        if whole("ids", ids, -MOST) < 1:
            raise ValueError(f"ids must be at least 1, got {ids}")
        self.shared = flag("shared", shared)
        self.register_buffer("_keys", torch.zeros(size, dim))
        shape = (size,) if ids == 1 else (size, ids)
        self.register_buffer("_ids", torch.full(shape, _NOBODY))
        self.register_buffer("_pushed", torch.zeros((), dtype=torch.int64))
        #: what ``_pushed`` holds, if it is known without reading it
        self._count: int | None = 0

    def __len__(self) -> int:
        if self._count is None:
            self._count = int(self._pushed)
        return min(self._count, len(self._keys))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._count = None

    def candidates(self, keys: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return this batch's keys, then the queued ones.

        Args:
            keys: (N, d).
            index: (N,) long, their data set positions, or (N, ids).

        Returns:
            (N + queued, d) and (N + queued,) or (N + queued, ids); queued keys have no gradient.

        Raises:
            ValueError: shapes that do not fit.
        """
        self._check(keys, index)
        queued = slice(len(self))
        if self.shared and several_processes():
            queued = slice(distributed.get_rank(), len(self), distributed.get_world_size())
        return (
            torch.cat([keys, self._keys[queued].to(keys.dtype)]),
            torch.cat([index, self._ids[queued]]),
        )

    @torch.no_grad()
    def push(self, keys: Tensor, index: Tensor) -> None:
        """Add keys in the place of the oldest; of more than fit, the last are kept.

        Raises:
            ValueError: shapes that do not fit.
        """
        self._check(keys, index)
        keys = keys.detach()
        if self.shared and several_processes():
            ranks = Ranks(len(keys), len(keys), keys.device)
            keys, index = ranks.gather(keys), ranks.gather(index)
        size = len(self._keys)
        newest = slice(max(len(keys) - size, 0), None)
        at = torch.arange(len(keys), device=self._keys.device)[newest] + self._pushed
        self._keys[at % size] = keys[newest].to(self._keys.dtype)
        self._ids[at % size] = index[newest]
        self._pushed += len(keys)
        if self._count is not None:
            self._count += len(keys)

    def _check(self, keys: Tensor, index: Tensor) -> None:
        width = self._keys.shape[1]
        if not isinstance(keys, Tensor) or not keys.is_floating_point():
            kind = keys.dtype if isinstance(keys, Tensor) else type(keys).__name__
            raise ValueError(f"keys must be (N, {width}) floating numbers, got {kind}")
        several = self._ids.dim() == 2 and isinstance(index, Tensor)
        check_index(index.flatten() if several and index.layout is torch.strided else index)
        shape = (len(keys), *self._ids.shape[1:])
        if keys.dim() != 2 or keys.shape[1] != width or index.shape != shape:
            wanted = ", ".join(["N", *map(str, shape[1:])]) + ("," if len(shape) == 1 else "")
            raise ValueError(
                f"keys must be (N, {width}) and index ({wanted}), got {tuple(keys.shape)} and "
                f"{tuple(index.shape)}"
            )


class PairQueue(nn.Module):
    """A :class:`KeyQueue` of pairs: keys of both sides, with the ids of their pair.

    ::

        own = Keys(*slow(images, texts), index)       # of this batch, by a MomentumEncoder
        loss = loss_fn(x, y, keys=queue.candidates(own))
        queue.push(own)

    Args:
        size: pairs that are kept.
        dim: width d of a key.
        ids: id vectors of the keys: those of ``index``, ``same`` and ``labels`` together.
        shared: as for :class:`KeyQueue`.

    Raises:
        ValueError: a size, width or number of ids below 1.
    """

    def __init__(self, size: int, dim: int, *, ids: int = 1, shared: bool = False) -> None:
        super().__init__()
        self.ids = ids
        self.pairs = KeyQueue(size, 2 * whole("dim", dim, -MOST), ids=ids, shared=shared)

    def __len__(self) -> int:
        return len(self.pairs)

    def candidates(self, own: Keys) -> Keys:
        """Return this batch's keys, then the queued ones, which have no gradient.

        Raises:
            ValueError: keys of another width, or with another number of id vectors.
        """
        keys, ids = self.pairs.candidates(*self._joined(own))
        x, y = keys.chunk(2, dim=1)
        return own.with_columns(x, y, [ids] if self.ids == 1 else ids.unbind(1))

    def push(self, own: Keys) -> None:
        """Add pairs in the place of the oldest.

        Raises:
            ValueError: keys of another width, or with another number of id vectors.
        """
        self.pairs.push(*self._joined(own))

    def _joined(self, batch: Keys) -> tuple[Tensor, Tensor]:
        columns = batch.columns()
        if len(columns) != self.ids:
            raise ValueError(
                f"PairQueue(ids={self.ids}) keeps so many id vectors, and the keys have "
                f"{len(columns)} in index, same and labels"
            )
        ids = columns[0] if self.ids == 1 else torch.stack(columns, dim=1)
        return torch.cat([batch.x, batch.y], dim=1), ids
