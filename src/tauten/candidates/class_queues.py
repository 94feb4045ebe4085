"""A queue of keys for each class, and the pixels at which classes meet (HPCL-Net)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.candidates.queue import KeyQueue
from tauten.checks import MOST, whole
from tauten.ids import check_index, check_stored


class ClassQueues(nn.Module):
    """The last ``size`` keys of each class, so that rare classes keep theirs.

    ::

        queues.push(slow_pixels, classes)
        keys, of_key = queues.candidates()
        loss = DecoupledSoftmax(0.1, directions="x2y")(pixels, keys, labels=(of_pixel, of_key))

    Supervised pixel contrast with queues of a momentum encoder, as HPCL-Net has for landslides.
    Over processes all push together and have the same keys; a loss gets each process's share.

    Args:
        size: keys of each class.
        dim: width d of a key.
        classes: how many there are.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(self, size: int, dim: int, classes: int) -> None:
        super().__init__()
        if whole("classes", classes, -MOST) < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        self.queues = nn.ModuleList(KeyQueue(size, dim, shared=True) for _ in range(classes))

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._each())

    def push(self, keys: Tensor, labels: Tensor) -> None:
        """Add keys to the queues of their classes.

        Args:
            keys: (N, d).
            labels: (N,) long.

        Raises:
            ValueError: shapes that do not fit, or a class out of range.
        """
        code = check_index(labels).long().to(keys.device)
        most = len(self.queues) - 1
        if len(code) != len(keys) or (
            len(code) and not 0 <= int(code.min()) <= int(code.max()) <= most
        ):
            raise ValueError(f"labels must be ({len(keys)},) in 0 .. {most}")
        check_stored("keys", keys)
        for label, queue in enumerate(self._each()):
            rows = (code == label).nonzero().squeeze(1)
            queue.push(keys[rows], code[rows])

    def candidates(self) -> tuple[Tensor, Tensor]:
        """Return all keys, (K, d), and the class of each, (K,)."""
        parts = []
        for queue in self._each():
            empty = queue._keys[:0]
            parts.append(queue.candidates(empty, torch.empty(0, dtype=torch.long).to(empty.device)))
        keys, labels = zip(*parts, strict=True)
        return torch.cat(keys), torch.cat(labels)

    def _each(self) -> list[KeyQueue]:
        return [queue for queue in self.queues if isinstance(queue, KeyQueue)]


def boundary_pixels(labels: Tensor, width: int = 1) -> Tensor:
    """Return (B, H, W) bool, which pixels have another class within ``width`` pixels.

    Args:
        labels: (B, H, W) long, the class of each pixel.
        width: how far to look in both directions, >= 1.

    Raises:
        ValueError: no (B, H, W).
    """
    if labels.dim() != 3 or labels.is_floating_point():
        raise ValueError(f"labels must be whole numbers (B, H, W), got {tuple(labels.shape)}")
    size = 2 * whole("width", width, 1) + 1
    values = labels.double().unsqueeze(1)
    largest = F.max_pool2d(values, size, stride=1, padding=width)
    least = -F.max_pool2d(-values, size, stride=1, padding=width)
    return (largest != least).squeeze(1)
