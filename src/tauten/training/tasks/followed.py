"""An encoder that is trained, and the slow copy of it that makes the keys of a queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import TrainerCallback

from tauten.candidates import MomentumEncoder
from tauten.losses import ContrastiveLoss
from tauten.training.loop.steps import left_out


class FollowedModule(nn.Module):
    """An encoder and a loss and, with a queue, the momentum encoder that fills it.

    Over several processes the queue is one and the same on each, so that a checkpoint, which one
    of them writes, may go on with any number of them.

    Args:
        encoder: that is trained.
        loss_fn: with its controls, counters and tables.
        queue: earlier keys; None for the batch alone.
        momentum: how slowly the encoder of the keys follows.
    """

    #: steps in which the share of the targets that the keys make rises
    rise: int = 0

    def __init__(
        self, encoder: nn.Module, loss_fn: ContrastiveLoss, queue: nn.Module | None, momentum: float
    ) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.loss_fn = loss_fn
        self.slow = None if queue is None else MomentumEncoder(encoder, momentum)
        self.queue: Any = queue

    def forces(self, groups: Sequence[str] | None) -> dict[str, float]:
        """Return the force per anchor of each group in the last training batch.

        They are entries of a line of history, see
        :func:`tauten.training.tasks.force.force_by_group`. All processes ask together.

        Args:
            groups: "head", "mid" or "tail" of each training sample; None where there are no
                classes.
        """
        raise NotImplementedError

    def follow(self) -> None:
        """Move the momentum encoder, if there is one; once after each optimiser step."""
        if self.slow is not None:
            self.slow.update(self.encoder)


class Follow(TrainerCallback):  # type: ignore[misc]
    """A callback that moves the momentum encoder after each optimiser step."""

    def __init__(self, module: FollowedModule) -> None:
        self.module = module

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move it; parameters are those after the step."""
        if not left_out(kwargs):
            self.module.follow()
