"""Cost of a step of a finished run, measured on a copy of what it trained."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tauten.comparison.allocations import step_memory
from tauten.losses import ContrastiveLoss
from tauten.training import Config, checkpoints, specs
from tauten.training.build import build_loss
from tauten.training.loop.arguments import make_optimizer
from tauten.training.run.names import CHECKPOINTS
from tauten.training.stores.classes import Classes
from tauten.training.stores.pair_data import PairData
from tauten.training.stores.splits import load_split

#: steps before the optimiser has its state, and timed ones after
_FIRST, _TIMED = 1, 3


@dataclass(frozen=True)
class StepCost:
    """Cost of a training step without evaluation and logging.

    Attributes:
        seconds: median of a few steps.
        memory_mib: most that a step allocates at a time, and what the loss keeps between steps.
    """

    seconds: float
    memory_mib: float


def step_cost(config: Config, total_steps: int) -> StepCost | None:
    """Train on for a few steps from the best checkpoint, and leave the run as it is.

    All steps have the same batch, one of ``optim.batch_size`` training samples; the loss starts
    anew, with the tables of the whole training split.

    Args:
        config: configuration of a finished run that has its checkpoints.
        total_steps: optimiser steps of its training.

    Returns:
        None where it cannot be told: on a GPU, of a stream, of data without classes, or where the
        checkpoints are gone.
    """
    best = config.output / CHECKPOINTS / checkpoints.BEST
    if torch.cuda.is_available() or config.data.stream or not checkpoints.is_complete(best):
        return None
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        steps = _steps(config, best, total_steps)
        return None if steps is None else _measured(steps)


def _steps(config: Config, best: Path, total_steps: int) -> _Steps | None:
    """Build steps of a checkpoint's model; return None for data without classes."""
    task = specs.task(config.task)
    loaded = task.load(best)
    if loaded.classes is None:
        return None
    data = replace(config.data, limit=config.optim.batch_size)
    train = load_split(data, "train", config.progress)
    loss_fn = _loss(config, train, loaded.classes, total_steps)
    module = task.module(config, loaded.encoder, loss_fn)
    store = task.store(train, loaded.tokenizer, config.data)
    return _Steps(config, module.train(), store, torch.arange(len(train)))


def _loss(config: Config, train: PairData, classes: Classes, steps: int) -> ContrastiveLoss:
    """Build the loss of the run, with tables of as many samples as it had."""
    labels = [name for name, size in classes.counts.items() for _ in range(size)]
    table = None if train.relevancy is None else train.relevancy.table
    return build_loss(config, len(labels), classes.per_sample(labels), steps, labels, table)


class _Steps:
    """Optimiser steps on one batch."""

    def __init__(self, config: Config, module: Any, store: Any, index: Tensor) -> None:
        self.module, self.store, self.index = module, store, index
        self.optimizer = make_optimizer(config.optim, module)

    def __call__(self) -> None:
        loss = self.module(**self.store.batch(self.index))["loss"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.module.loss_fn.step()
        self.module.follow()


def _measured(step: _Steps) -> StepCost:
    seconds = []
    for _ in range(_FIRST + _TIMED):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    memory = step_memory(step, step.module.loss_fn)
    return StepCost(statistics.median(seconds[_FIRST:]), memory)
