"""Records of a training: history, τ and force by group, TensorBoard, the progress bar."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import TrainerCallback

from tauten.evaluation.temperatures import TauProbe
from tauten.training.loop.reporters import Reporters
from tauten.training.loop.steps import Steps, left_out
from tauten.training.run.names import TENSORBOARD
from tauten.training.run.run_folder import RunFolder

logger = logging.getLogger("tauten.training")


class RunningLoss:
    """The mean loss of the steps since the last line of history; checkpoints keep it.

    Args:
        total: sum of the losses so far.
        since: the step of that line.
    """

    def __init__(self, total: float = 0.0, since: int = 0) -> None:
        self.total = torch.tensor(total)
        self.since = since

    def add(self, loss: Tensor) -> None:
        """Add the loss of a batch, a share of its step's."""
        self.total = self.total.to(loss.device, non_blocking=True)
        self.total += loss.detach()

    def take(self, step: int) -> float:
        """Return the mean of the steps up to this one, and begin anew."""
        mean = float(self.total) / (step - self.since)
        self.total, self.since = torch.zeros_like(self.total), step
        return mean

    def state(self) -> dict[str, float]:
        """Return the arguments that make it again."""
        return {"total": float(self.total), "since": self.since}


class Monitor(TrainerCallback):  # type: ignore[misc]
    """Steps the loss's controls, and writes history and TensorBoard.

    A line has the loss up to a step, and the temperatures and forces in that step.

    Args:
        folder: folder of the run.
        probe: of the loss's values.
        forces: of the last batch, as entries of a line.
        steps: of the training, which say where a line is due.
        loss: mean of the steps since the last line.
        metric: of the validation, that is shown.
        clock: of the run.
        progress: show a bar; without it each evaluation is a line of the log.
        tensorboard: write events.
        reporters: further loggers.
    """

    def __init__(
        self,
        folder: RunFolder,
        probe: TauProbe,
        forces: Callable[[], dict[str, float]],
        *,
        steps: Steps,
        loss: RunningLoss,
        metric: str = "mean_recall",
        clock: Clock,
        progress: bool,
        tensorboard: bool,
        reporters: Reporters,
    ) -> None:
        self.folder = folder
        self.probe = probe
        self.forces = forces
        self.steps = steps
        self.loss = loss
        self.values: dict[str, float] = {}
        self.metric = metric
        self.clock = clock
        self.progress = progress
        self.tensorboard = tensorboard
        self.reporters = reporters
        self.bar: Any = None
        self.writer: Any = None
        self.shown: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar and the event file at the step where training begins or goes on."""
        if not state.is_world_process_zero:
            return
        self.reporters.begin(args, state, control)
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit=" steps",
            disable=not self.progress,
            dynamic_ncols=True,
        )
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(
                str(self.folder.path / TENSORBOARD), purge_step=state.global_step + 1
            )

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note temperatures and forces before the step changes them."""
        if self.steps.logs(state.global_step + 1, args.logging_steps):
            self.values = self.probe.summary() | self.forces()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Step the controls, and say whether a line of history is due."""
        if not left_out(kwargs):
            self.probe.loss_fn.step()
        control.should_log = self.steps.logs(state.global_step, args.logging_steps)
        if self.bar is not None:
            self.bar.update(1)
        return control

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        """Write one line of history for a training log or an evaluation."""
        logs = logs or {}
        where = {"step": state.global_step, "epoch": state.epoch}
        if "loss" in logs:
            values = {"loss": self.loss.take(state.global_step)}
            values |= {name: logs[name] for name in ("grad_norm", "learning_rate") if name in logs}
            values |= self.values
            beta = getattr(getattr(optimizer, "optimizer", optimizer), "beta", None)
            if beta is not None:  # a momentum that each step sets
                values["momentum"] = float(beta)
            if args.fp16:
                values["steps_left_out"] = state.global_step - self.probe.loss_fn.steps
            self._show(loss=values["loss"], tau=values["tau/mean"])
            self._write(state, where | values, {f"train/{n}": v for n, v in values.items()})
            self.reporters.log(values)
        metrics = {name[5:]: value for name, value in logs.items() if name.startswith("eval_")}
        if metrics:
            values = {f"val/{name}": value for name, value in metrics.items()}
            self._show(val=metrics[self.metric])
            self._tell(state)
            self._write(state, where | values, values)
            self.reporters.log({f"eval_{name}": value for name, value in metrics.items()})

    def _show(self, **values: float) -> None:
        self.shown |= {name: f"{value:.3f}" for name, value in values.items()}
        if self.bar is not None:
            self.bar.set_postfix(self.shown, refresh=False)

    def _tell(self, state: Any) -> None:
        """Log an evaluation as a line, where no bar shows it."""
        if self.progress or not state.is_world_process_zero:
            return
        titles = {"loss": "loss", "tau": "tau", "val": f"val/{self.metric}"}
        values = ", ".join(f"{titles[name]} {value}" for name, value in self.shown.items())
        logger.info(
            "epoch %.4g, step %d of %d: %s, %.0f s",
            state.epoch,
            state.global_step,
            state.max_steps,
            values,
            self.clock.seconds(),
        )

    def _write(self, state: Any, line: dict[str, Any], scalars: dict[str, float]) -> None:
        if not state.is_world_process_zero:
            return
        self.folder.history.append(line)
        if self.writer is not None:
            for name, value in scalars.items():
                self.writer.add_scalar(name, value, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar and the event file."""
        self.close()

    def close(self) -> None:
        """Close the bar and the event file, also after an error."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class Clock:
    """Seconds of work on a run, over all its starts.

    Args:
        before: seconds of earlier starts.
    """

    def __init__(self, before: float = 0.0) -> None:
        self.before = before
        self.start = time.monotonic()

    def seconds(self) -> float:
        """Return seconds so far."""
        return self.before + time.monotonic() - self.start
