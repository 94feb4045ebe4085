"""accelerate: a loss beside what the accelerator prepares, saved and restored with it."""

from __future__ import annotations

from typing import Any

from torch import nn

from tauten.evaluation.temperatures import TauProbe
from tauten.extras import need
from tauten.losses import ContrastiveLoss

need("tauten.integrations.accelerate", "accelerate")

__all__ = ["RegisteredLoss"]


class RegisteredLoss:
    """A loss whose state ``save_state`` saves and ``load_state`` restores.

    Call :meth:`step` after each ``optimizer.step()``: it advances the loss where that was a step of
    the optimiser, not while gradients accumulate, nor where mixed precision left it out. The loss
    is moved to the accelerator's device; it may be prepared, or stand beside the model.

    ::

        registered = RegisteredLoss(accelerator, loss_fn)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        for batch in loader:
            with accelerator.accumulate(model):
                accelerator.backward(loss_fn(*model(batch), batch["index"]))
                optimizer.step()
                registered.step()
                optimizer.zero_grad()

    Args:
        accelerator: accelerator of the training.
        loss_fn: the loss.
        labels: (N,) the class of each training sample, by position, for temperatures by group.
    """

    def __init__(self, accelerator: Any, loss_fn: nn.Module, labels: Any = None) -> None:
        unwrapped: ContrastiveLoss = accelerator.unwrap_model(loss_fn)
        self.accelerator = accelerator
        self.loss_fn = unwrapped.to(accelerator.device)
        self._probe = TauProbe.of_labels(unwrapped, labels)
        accelerator.register_for_checkpointing(unwrapped)

    def step(self) -> bool:
        """Advance the loss if the optimiser made a step, and return whether it did."""
        made = self.accelerator.sync_gradients and not self.accelerator.optimizer_step_was_skipped
        if made:
            self.loss_fn.step()
        return bool(made)

    def temperatures(self) -> dict[str, float]:
        """Return τ of the samples, for ``accelerator.log``; all processes call together.

        ``tau/mean``, ``tau/min`` and ``tau/max``; with labels also ``tau/head`` and so on. Without
        them these are of the last batch.
        """
        return self._probe.summary()

    def hyper_parameters(self) -> dict[str, str]:
        """Return what ``accelerator.init_trackers(config=...)`` may have of the loss."""
        return {"loss_fn": repr(self.loss_fn)}
