"""A callback of Hugging Face's trainers that steps, saves and reports a loss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tauten.evaluation.temperatures import TauProbe
from tauten.extras import need
from tauten.files.atomic import replacing
from tauten.losses import ContrastiveLoss

need("tauten.integrations.transformers", "transformers")
from transformers import TrainerCallback

#: beside the model's weights in each checkpoint
LOSS = "loss.pt"


class LossCallback(TrainerCallback):  # type: ignore[misc]
    """A callback that advances a loss once per optimiser step, and keeps it in the checkpoints.

    Its state is in ``checkpoint-N/loss.pt``, written by the first process; a resumed training loads
    it before the first step. :func:`attach` puts the callback where loggers see the temperatures.

    Args:
        loss_fn: the loss that trains.
        labels: (N,) the class of each training sample, by position, for temperatures by group.
        resume_from: folder of the checkpoint to go on from, if it is not in ``output_dir``.
    """

    def __init__(
        self,
        loss_fn: ContrastiveLoss,
        labels: Any = None,
        resume_from: str | Path | None = None,
    ) -> None:
        self.loss_fn = loss_fn
        self.probe = TauProbe.of_labels(loss_fn, labels)
        self.resume_from = resume_from
        self._values: dict[str, float] = {}
        self._scale: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Load the state of the loss where a training goes on.

        Raises:
            ValueError: a checkpoint without it.
        """
        self.loss_fn.to(args.device)
        self._scale = _scale(kwargs)
        self._forget_gradients()
        if not state.global_step:
            return
        folder = Path(self.resume_from or _checkpoint(args, state))
        if not (folder / LOSS).is_file():
            raise ValueError(
                f"{folder} has no {LOSS}, the state of the loss at step {state.global_step}: go on "
                "from a checkpoint that has it, or name its folder with resume_from="
            )
        saved = torch.load(folder / LOSS, map_location="cpu", weights_only=True)
        self.loss_fn.load_state_dict(saved)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the temperatures of this step if it is logged, and advance the loss.

        It stays where it is if gradients in float16 overflowed, so that the scaler left the
        optimiser's step out.
        """
        self._values = self.probe.summary() if control.should_log else {}
        before, self._scale = self._scale, _scale(kwargs)
        if before is None or self._scale is None or self._scale >= before:
            self.loss_fn.step()
        self._forget_gradients()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Add the temperatures to a line of training."""
        if logs is None or "loss" not in logs:
            return
        logs.update(self._values or self.probe.summary())
        if state.log_history:
            state.log_history[-1].update(logs)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the state of the loss into the checkpoint."""
        if state.is_world_process_zero:
            with replacing(_checkpoint(args, state) / LOSS) as file:
                torch.save(self.loss_fn.state_dict(), file)

    def _forget_gradients(self) -> None:
        """Drop gradients of the loss, which the trainer's ``model.zero_grad()`` does not reach."""
        for parameter in self.loss_fn.parameters():
            parameter.grad = None


def attach(
    trainer: Any,
    loss_fn: ContrastiveLoss,
    labels: Any = None,
    resume_from: str | Path | None = None,
) -> LossCallback:
    """Give a trainer the callback of its loss, before its loggers.

    Whatever the trainer reports to then has ``tau/mean``, ``tau/min``, ``tau/max`` and, with
    labels, ``tau/head`` and so on in each line of training. The data collator of a trainer of
    sentence-transformers is told that a column ``index`` holds positions, not text.

    Args:
        trainer: Hugging Face's or sentence-transformers'.
        loss_fn: the loss that trains.
        labels: (N,) the class of each training sample, by position.
        resume_from: folder of the checkpoint to go on from, if it is not in ``output_dir``.

    Returns:
        The callback.
    """
    callback = LossCallback(loss_fn, labels, resume_from)
    trainer.callback_handler.callbacks.insert(1, callback)  # after the one that sets should_log
    columns = getattr(trainer.data_collator, "valid_label_columns", None)
    if columns is not None and "index" not in columns:
        columns.insert(0, "index")
    return callback


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _scale(of_callback: Mapping[str, Any]) -> float | None:
    """Return what losses are multiplied by in float16, which falls where a step is left out."""
    scaler = getattr(of_callback.get("optimizer"), "scaler", None)
    return None if scaler is None else float(scaler.get_scale())
