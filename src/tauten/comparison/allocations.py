"""The most memory that tensors made within a block, or a training step, hold at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MIB = 2**20


class Allocations(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, while they live.

    ``most`` is the peak, in bytes. What exists before the block does not count, and what an
    operation uses inside itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            self._meet(leaf, new=False)
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            self._meet(leaf, new=True)
        return made

    def _meet(self, leaf: Any, new: bool) -> None:
        if not isinstance(leaf, torch.Tensor):
            return
        storage = leaf.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        size = storage.nbytes() if new else 0
        self._alive.add(key)
        self._now += size
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._now -= size


def step_memory(step: Callable[[], None], loss_fn: nn.Module) -> float:
    """Return the most MiB that a step allocates at once, and those that the loss keeps between."""
    held: int = sum(t.numel() * t.element_size() for t in loss_fn.state_dict().values())
    counted = Allocations()
    with counted:
        step()
    return (held + counted.most) / MIB
