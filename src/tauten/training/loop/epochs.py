"""Epochs of what the loader reads before the steps."""

from __future__ import annotations

import gc
from typing import Any

from transformers import TrainerCallback

from tauten.training.loop.steps import Steps
from tauten.training.options.config import OptimConfig
from tauten.training.stores.store import Reads


class Epochs(TrainerCallback):  # type: ignore[misc]
    """A callback that tells what is read which epoch it is, before the first batch of it.

    Args:
        reads: the data set that the loader reads.
        optim: options of the optimiser, by which the epoch follows from the step.
    """

    def __init__(self, reads: Reads, optim: OptimConfig) -> None:
        self.reads = reads
        self.per_epoch = Steps.of(len(reads), optim).per_epoch

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell it, and leave nothing to collect to the loader's workers, which begin now.

        A frame of a video that is freed in another process than decoded it waits for threads that
        are not there.
        """
        self.reads.set_epoch(state.global_step // self.per_epoch)
        if self.reads.workers:
            gc.collect()
            gc.freeze()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Collect again in this process."""
        if self.reads.workers:
            gc.unfreeze()
