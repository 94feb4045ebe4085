"""Optimiser steps of a training, counted as the trainer takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tauten.training.options.config import EvaluationConfig, OptimConfig


@dataclass(frozen=True)
class Steps:
    """Optimiser steps of an epoch, of the whole training, and between evaluations.

    A batch that the samples of an epoch do not fill is left out. Where ``optim.accumulation`` does
    not divide the batches of an epoch, the rest of them is a step too.

    Attributes:
        per_epoch: of an epoch.
        total: of the training; it ends after exactly so many.
        between: from one evaluation to the next.
    """

    per_epoch: int
    total: int
    between: int

    @classmethod
    def of(cls, size: int, optim: OptimConfig, evaluation: EvaluationConfig | None = None) -> Steps:
        """Return the steps of a training split of this size.

        Raises:
            ValueError: fewer samples than one batch.
        """
        batches = size // optim.batch_size
        if batches < 1:
            raise ValueError(
                f"the training split has {size} samples, fewer than a batch of "
                f"{optim.batch_size}: set optim.batch_size={size} or less"
            )
        per_epoch = -(-batches // optim.accumulation)
        total = max(1, round(per_epoch * optim.epochs))
        every = total if evaluation is None else round(per_epoch * evaluation.every)
        return cls(per_epoch, total, max(1, min(total, every)))

    def logs(self, step: int, every: int) -> bool:
        """Return whether a line of history is due after this step: each ``every`` steps, after the
        first and the last, and where an evaluation follows.
        """
        return step in (1, self.total) or step % every == 0 or step % self.between == 0


def left_out(of_callback: Mapping[str, Any]) -> bool:
    """Return whether the optimiser left a step out, as scaled gradients had overflowed.

    Args:
        of_callback: keywords that the trainer gives its callbacks.
    """
    return bool(getattr(of_callback.get("optimizer"), "step_was_skipped", False))
