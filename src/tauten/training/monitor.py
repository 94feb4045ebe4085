"""What is recorded while training: history, τ by group, TensorBoard, the progress bar."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import TrainerCallback

from tauten.losses import ContrastiveLoss
from tauten.training.run_folder import TENSORBOARD, RunFolder

GROUPS = ("head", "mid", "tail")


class TauProbe:
    """Temperature or margin of all training samples, by count group.

    Args:
        loss_fn: whose values are read.
        groups: "head", "mid" or "tail" of each training sample; None where there are no classes.
        size: number of training samples.
    """

    def __init__(self, loss_fn: ContrastiveLoss, groups: list[str] | None, size: int) -> None:
        self.loss_fn = loss_fn
        self.index = torch.arange(size)
        self.members: dict[str, Tensor] = {}
        for name in GROUPS if groups is not None else ():
            rows = [i for i, group in enumerate(groups or ()) if group == name]
            if rows:
                self.members[name] = torch.tensor(rows)

    def values(self) -> Tensor:
        """(N_train,) values now."""
        tau = self.loss_fn.tau(self.index)
        assert isinstance(tau, Tensor)
        return tau.detach().float().cpu()

    def summary(self) -> dict[str, float]:
        """Mean, min and max over all, and mean, low and high of each group."""
        tau = self.values()
        found = {
            "tau/mean": float(tau.double().mean()),
            "tau/min": float(tau.min()),
            "tau/max": float(tau.max()),
        }
        for name, rows in self.members.items():
            part = tau[rows]
            found |= {
                f"tau/{name}": float(part.double().mean()),
                f"tau/{name}/low": float(part.min()),
                f"tau/{name}/high": float(part.max()),
            }
        return found


class Monitor(TrainerCallback):  # type: ignore[misc]
    """Steps the loss's controls, and writes history and TensorBoard.

    Args:
        folder: of the run.
        probe: of the loss.
        progress: show a bar.
        tensorboard: write events.
    """

    def __init__(
        self, folder: RunFolder, probe: TauProbe, *, progress: bool, tensorboard: bool
    ) -> None:
        self.folder = folder
        self.probe = probe
        self.progress = progress
        self.tensorboard = tensorboard
        self.bar: Any = None
        self.writer: Any = None
        self.shown: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar and the event file at the step where training begins or goes on."""
        if not state.is_world_process_zero:
            return
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

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Step the controls; log where a checkpoint follows, so that resuming changes no line."""
        self.probe.loss_fn.step()
        if control.should_save:
            control.should_log = True
        if self.bar is not None:
            self.bar.update(1)
        return control

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """One line of history for a training log or an evaluation."""
        logs = logs or {}
        where = {"step": state.global_step, "epoch": state.epoch}
        if "loss" in logs:
            names = ("loss", "grad_norm", "learning_rate")
            values = {name: logs[name] for name in names if name in logs} | self.probe.summary()
            self._show(loss=logs["loss"], tau=values["tau/mean"])
            self._write(state, where | values, {f"train/{n}": v for n, v in values.items()})
        found = {name[5:]: value for name, value in logs.items() if name.startswith("eval_")}
        if found:
            values = {f"val/{name}": value for name, value in found.items()}
            self._show(val=found["mean_recall"])
            self._write(state, where | values, values)

    def _show(self, **values: float) -> None:
        self.shown |= {name: f"{value:.3f}" for name, value in values.items()}
        if self.bar is not None:
            self.bar.set_postfix(self.shown, refresh=False)

    def _write(self, state: Any, line: dict[str, Any], scalars: dict[str, float]) -> None:
        if not state.is_world_process_zero:
            return
        self.folder.append_history(line)
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
        """Seconds so far."""
        return self.before + time.monotonic() - self.start
