"""Options of losses that take the keys of earlier batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tauten.losses.weighting import Weighted
from tauten.spec import Decay, Range, When

_VIEWS = When("task", ("views",))


@dataclass
class Queued(Weighted):
    """A loss that takes a queue of keys as further candidates."""

    queue: Annotated[int, Range(0), _VIEWS] = 0
    """views: keys of earlier batches that are further negatives, made by a momentum encoder (MoCo);
    0 for the other views of the batch alone"""
    momentum: Annotated[Decay, _VIEWS] = 0.999
    """views with a queue: how slowly the momentum encoder follows"""

    @property
    def keys_kept(self) -> tuple[int, float]:
        return self.queue, self.momentum
