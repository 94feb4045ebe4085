"""A control and a loss of one's own, for ``tauten train``, ``compare`` and ``report``.

    tauten train emoji_infonce_constant --plugin examples/own_rules.py --family cubed \
        --control.kind warmup --control.steps 50 --output runs/own
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from tauten.extend import (
    Batch,
    Context,
    ContrastiveLoss,
    Control,
    ControlSpec,
    Level,
    LossSpec,
    Range,
    logits_lse,
    reciprocal,
)


class Warmup(Control):
    """A temperature that rises from half its value over the first steps."""

    def __init__(self, value: float, steps: int) -> None:
        super().__init__()
        self.value, self.last = value, steps

    def values(self, index: Tensor, step: int) -> Tensor:
        return torch.tensor(self.value * (0.5 + 0.5 * min(1.0, step / self.last)))

    def range(self) -> tuple[float, float]:
        return self.value / 2, self.value


@dataclass
class WarmupSpec(ControlSpec):
    """A temperature that rises over the first steps."""

    kind: ClassVar[str] = "warmup"
    title: ClassVar[str] = "warm-up"

    value: Level = 0.07
    """the temperature after the rise"""
    steps: Annotated[int, Range(1)] = 100
    """optimiser steps of the rise"""

    def build(self, context: Context) -> Warmup:
        return Warmup(self.value, self.steps)


class CubedInfoNCE(ContrastiveLoss):
    """InfoNCE whose positives are pulled by the mean of s and s³."""

    def anchor_losses(self, batch: Batch, directions: Sequence[str]) -> list[Tensor]:
        scales = [reciprocal(batch.strength(self.strength, d)) for d in directions]
        partitions = logits_lse(batch, scales, directions, own=False)
        losses = []
        for partition, scale, d in zip(partitions, scales, directions, strict=True):
            s = batch.positives(d)
            losses.append(partition - (s + s**3) / 2 * batch.at_positives(scale, d))
        return losses


@dataclass
class CubedSpec(LossSpec):
    """InfoNCE whose positives are pulled by the mean of s and s³."""

    kind: ClassVar[str] = "cubed"
    title: ClassVar[str] = "Cubed"
    views: ClassVar[bool] = True

    def build(self, control: ControlSpec, context: Context) -> CubedInfoNCE:
        return CubedInfoNCE(control.build(context), **self.directions(context))
