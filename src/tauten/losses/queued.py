"""Options of losses that take the keys of earlier batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tauten.spec import Decay, LossSpec, Range, When

#: options that a queue gives a meaning, and those of pairs
OF_KEYS, OF_PAIRS = When("loss.queue"), When("task", ("pairs",))


@dataclass
class Queued(LossSpec):
    """A loss that takes a queue of keys as further candidates."""

    queue: Annotated[int, Range(0)] = 0
    """keys of earlier batches that are further negatives, made by a momentum encoder (MoCo); of
    pairs so many of each side, and each side meets keys of the other. 0 for the batch alone"""
    momentum: Annotated[Decay, OF_KEYS] = 0.999
    """with a queue: how slowly the momentum encoder follows"""

    @property
    def keys_kept(self) -> tuple[int, float]:
        return self.queue, self.momentum


@dataclass
class Mixed(Queued):
    """A loss that takes mixtures of a queue's keys as negatives of each anchor's own."""

    mixtures: Annotated[int, Range(0), OF_KEYS, OF_PAIRS] = 0
    """with a queue of pairs: negatives of each anchor's own, mixed of two of its hardest keys
    (MoCHi); 0 for none"""
    anchor_mixtures: Annotated[int, Range(0), When("loss.mixtures")] = 0
    """further ones, mixed of the anchor and one of its hardest keys"""
    hardest: Annotated[int, Range(1), When("loss.mixtures")] = 64
    """keys of each anchor that are mixed"""

    @property
    def mixed(self) -> tuple[int, int, int] | None:
        return (self.hardest, self.mixtures, self.anchor_mixtures) if self.mixtures else None
