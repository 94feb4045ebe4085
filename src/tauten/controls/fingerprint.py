"""Controls made from numbers of a data set, which refuse the state of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tauten.controls.base import Control


class OfData(Control):
    """A control whose state remembers which numbers it was made from, and holds none of them."""

    fingerprint: Tensor

    def _fingerprint(self, numbers: Tensor) -> None:
        self.register_buffer("fingerprint", checksum(numbers))

    def _foreign(self, numbers: int) -> str:
        """Return the message for a state made from other numbers, of which there were so many."""
        raise NotImplementedError

    def refuse(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        saved = state_dict.get(f"{prefix}fingerprint")
        if saved is not None and not torch.equal(saved.cpu(), self.fingerprint.cpu()):
            raise ValueError(self._foreign(int(saved[0])))


def checksum(numbers: Tensor) -> Tensor:
    """Return length and two checksums, one of them dependent on the order: (3,) int64."""
    numbers = numbers.flatten().cpu().double()
    whole = (numbers * 1024).round().to(torch.int64)
    position = torch.arange(1, len(whole) + 1, dtype=torch.int64)
    modulus = 2**31 - 1
    mixed = (whole % modulus) * (position * 48271 % modulus) % modulus
    return torch.stack([torch.tensor(len(whole)), whole.sum(), mixed.sum()])
