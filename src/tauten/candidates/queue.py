"""A queue of the keys of earlier batches, as further candidates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tauten.checks import MOST, whole
from tauten.ids import check_index

_NOBODY = -1


class KeyQueue(nn.Module):
    """The last ``size`` keys with their ids, first in, first out; all of it is in a checkpoint.

    ::

        keys, key_ids = queue.candidates(k, index)           # (N + queued, d): the batch first
        pairs = torch.arange(len(q))                         # k[i] is the key of q[i]
        loss = loss_fn(q, keys, (index, key_ids), positives=pairs, same=[(index, key_ids)])
        queue.push(k, index)

    with a loss of ``directions="x2y"``; ``same=`` leaves earlier keys of an anchor's own sample
    out. Over several processes each has a queue of its own keys, and losses join them.

    Args:
        size: keys that are kept.
        dim: width d of a key.

    Raises:
        ValueError: a size or width below 1.
    """

    _keys: Tensor
    _ids: Tensor
    _pushed: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if whole("size", size, -MOST) < 1 or whole("dim", dim, -MOST) < 1:
            raise ValueError(f"size and dim must be at least 1, got {size} and {dim}")
        self.register_buffer("_keys", torch.zeros(size, dim))
        self.register_buffer("_ids", torch.full((size,), _NOBODY))
        self.register_buffer("_pushed", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return min(int(self._pushed), len(self._keys))

    def candidates(self, keys: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return this batch's keys, then the queued ones.

        Args:
            keys: (N, d).
            index: (N,) long, their data set positions.

        Returns:
            (N + queued, d) and (N + queued,); queued keys have no gradient.

        Raises:
            ValueError: shapes that do not fit.
        """
        self._check(keys, index)
        queued = slice(len(self))
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
        size = len(self._keys)
        kept = slice(max(len(keys) - size, 0), None)
        at = torch.arange(len(keys), device=self._keys.device)[kept] + self._pushed
        self._keys[at % size] = keys.detach()[kept].to(self._keys.dtype)
        self._ids[at % size] = index[kept]
        self._pushed += len(keys)

    def _check(self, keys: Tensor, index: Tensor) -> None:
        width = self._keys.shape[1]
        if not isinstance(keys, Tensor) or not keys.is_floating_point():
            kind = keys.dtype if isinstance(keys, Tensor) else type(keys).__name__
            raise ValueError(f"keys must be (N, {width}) floating numbers, got {kind}")
        if keys.dim() != 2 or keys.shape[1] != width or len(check_index(index)) != len(keys):
            raise ValueError(
                f"keys must be (N, {width}) and index (N,), got {tuple(keys.shape)} and "
                f"{tuple(index.shape)}"
            )
