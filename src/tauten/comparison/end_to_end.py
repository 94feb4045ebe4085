"""Cells that are whole training runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from tauten.comparison.frozen import Found
from tauten.comparison.step_cost import step_cost
from tauten.comparison.tested import of_run
from tauten.outcome import OUTCOME, VIEWS
from tauten.training import Config, train
from tauten.training.run.names import (
    CHECKPOINTS,
    EMBEDDINGS,
    FEATURES,
    IMAGES,
    SAMPLES,
    TRAIN_IMAGES,
)

RUN = "run"


def train_run(config: Config, folder: Path, *, test: bool) -> Found:
    """Train a run in the cell's folder, of which what is large and not needed is dropped.

    Args:
        config: configuration of the run.
        folder: folder of the cell; the run is in its folder ``run``.
        test: whether the scores of the test queries are kept, and a step is measured; the run then
            keeps what a report needs.
    """
    config.output = folder / RUN
    config.progress = config.tensorboard = False
    result = train(config)
    cost = step_cost(config, result.total_steps) if test else None
    scores = of_run(config) if test else None
    _slim(config.output, test=test)
    metric = config.evaluation.metric
    score = result.val[VIEWS.main if metric == "last" else metric]
    return Found(
        val=score,
        queries=scores,
        curve=((1.0, score),),
        steps=result.total_steps,
        stopped=False,
        seconds_per_step=cost.seconds if cost else result.wall_s / result.total_steps,
        memory_mib=cost.memory_mib if cost else None,
    )


def _slim(run: Path, *, test: bool) -> None:
    """Drop checkpoints and training pictures, and of a trial of tuning all arrays."""
    shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
    arrays = () if test else (OUTCOME, EMBEDDINGS, FEATURES, IMAGES, SAMPLES)
    for name in (TRAIN_IMAGES, *arrays):
        (run / name).unlink(missing_ok=True)
