"""Loggers that transformers knows, such as W&B, MLflow and trackio, for a run of tauten."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from transformers.integrations import get_reporting_integration_callbacks

#: what config.yaml and TensorBoard's own option do
_NOT_HERE = {
    "tensorboard": "--tensorboard writes its events into the run",
    "all": "name them",
    "none": "leave the option out",
}


class Reporters:
    """Loggers that have the run's options, its losses, τ by group, and its metrics.

    Each is a callback of Hugging Face's trainer; all are called by the first process.

    Args:
        names: of the loggers.
        options: of the run, as a tree.

    Raises:
        ValueError: an unknown name.
        ImportError: a logger whose package is missing.
    """

    def __init__(self, names: Sequence[str], options: Mapping[str, Any]) -> None:
        for name in names:
            if name in _NOT_HERE:
                raise ValueError(f"report_to={name} is not for a logger: {_NOT_HERE[name]}")
        try:
            self.callbacks = [made() for made in get_reporting_integration_callbacks([*names])]
        except ValueError as error:
            raise ValueError(f"report_to: {error}") from error
        except RuntimeError as error:  # how transformers says that a package is missing
            raise ImportError(f"report_to: {error}") from error
        self.options = dict(_flat(options))
        self._trainer: tuple[Any, Any, Any] | None = None

    def begin(self, args: Any, state: Any, control: Any) -> None:
        """Open the loggers and give them the options of the run."""
        self._trainer = args, state, control
        described = SimpleNamespace(config=_Options(self.options))
        for callback in self.callbacks:
            callback.on_train_begin(args, state, control, model=described)

    def log(self, values: Mapping[str, float]) -> None:
        """Give the loggers a line of numbers; names that begin with ``eval_`` are of validation."""
        if self._trainer is None:
            return
        args, state, control = self._trainer
        for callback in self.callbacks:
            callback.on_log(args, state, control, logs=dict(values), model=None)

    def log_test(self, metrics: Mapping[str, Any], trainer: Any, step: int) -> None:
        """Give the loggers the metrics of the test split, those that are numbers."""
        if not (self.callbacks and trainer.state.is_world_process_zero):
            return
        state = dataclasses.replace(trainer.state, global_step=step)
        if self._trainer is None:  # all steps were made in an earlier start
            self.begin(trainer.args, state, trainer.control)
        self._trainer = trainer.args, state, trainer.control
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        self.log({f"test_{name}": value for name, value in numbers.items()})

    def close(self) -> None:
        """Close the loggers, also after an error."""
        if self._trainer is not None:
            args, state, control = self._trainer
            self._trainer = None
            for callback in self.callbacks:
                callback.on_train_end(args, state, control, model=None)


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each option by its name on the command line."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


class _Options:
    """Options of a run in the form in which loggers read those of a model."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    def to_dict(self) -> dict[str, Any]:
        return dict(self.options)

    def to_json_string(self) -> str:
        return json.dumps(self.options, indent=2, default=str)
