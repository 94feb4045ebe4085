"""Ctrl-C and SIGTERM: a training saves a checkpoint after the step at hand, then ends."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import TrainerCallback

from tauten.messages import riding
from tauten.training import processes

#: seconds in which a second signal counts as the first, as launchers send it again
_TWICE = 2.0


class Interrupted(KeyboardInterrupt):
    """A training that was told to stop and saved its state; started again it goes on from there."""


class Stopper(TrainerCallback):  # type: ignore[misc]
    """A callback that stops a training, with a checkpoint, once a process is told to.

    A second signal, two seconds later or more, ends the process at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._when = 0.0
        self._step = 0
        #: whether a process was told to stop before a batch of the step at hand
        self._heard: bool | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as a wish to stop; other threads than the main one get none.

        Raises:
            Interrupted: the training has stopped because of SIGINT.
            SystemExit: because of SIGTERM, with status 143.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._told) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.number is not None:
            said = f"stopped at step {self._step}, whose checkpoint is saved"
            if self.number == signal.SIGTERM:
                raise SystemExit(128 + signal.SIGTERM) from Interrupted(said)
            raise Interrupted(said)

    def _told(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self.number is not None and now - self._when > _TWICE:
            raise KeyboardInterrupt
        if self.number is None:
            self.number, self._when = number, now

    @contextlib.contextmanager
    def asking(self, device: torch.device) -> Iterator[None]:
        """Tell the processes, with a message of the block, whether this one was told to stop."""
        if processes.count() == 1:
            yield
            return
        with riding(torch.tensor([self.number is not None], device=device), self._hear):
            yield

    def _hear(self, flags: list[bool]) -> None:
        self._heard = bool(self._heard) or flags[0]

    def _stops(self, args: Any) -> bool:
        """Return whether any process was told to stop; all of them ask together."""
        signal_number = torch.tensor([self.number or 0], device=args.device)
        if not bool(processes.any_of(signal_number > 0)):
            return False
        if self.number is None:
            self.number = signal.SIGTERM
        return True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Save and stop, if told to; over several processes, if told to before the batch."""
        heard, self._heard = self._heard, None
        if heard is False and state.global_step < state.max_steps:
            return control
        if self._stops(args):
            control.should_save = control.should_training_stop = True
            self._step = state.global_step
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Stop, if told to during the evaluation before this checkpoint."""
        if self._stops(args):
            control.should_training_stop = True
            self._step = state.global_step
        return control
