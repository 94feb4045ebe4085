"""Control and loss, built from a configuration and the facts of a training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.controls import Control
from tauten.losses import ContrastiveLoss
from tauten.spec import Context
from tauten.state import SampleTable
from tauten.training.options.config import Config
from tauten.training.options.further import CAPTION, further_of
from tauten.training.specs import task
from tauten.training.tasks.further import FurtherLosses

logger = logging.getLogger("tauten.training")


def context(
    config: Config,
    num_samples: int,
    counts: Tensor | None,
    total_steps: int,
    labels: Sequence[str] | None = None,
    table: Tensor | None = None,
    per_epoch: int | None = None,
    captions: Tensor | None = None,
) -> Context:
    """Return what the specs of control and loss are told of a training.

    Args:
        config: configuration of the run.
        num_samples: size of the training split.
        counts: (num_samples,) training count of each sample's class; None where not known.
        total_steps: optimiser steps of the whole training.
        labels: class of each sample; None where not known.
        table: relevancies between kinds of images and of captions; None where not graded.
        per_epoch: optimiser steps of an epoch; None for the total over ``optim.epochs``.
        captions: (num_samples,) how many captions each sample has, where they have ids of their
            own.
    """
    return Context(
        num_samples=num_samples,
        total_steps=total_steps,
        per_epoch=per_epoch or max(1, round(total_steps / config.optim.epochs)),
        dim=config.model.dim,
        counts=counts,
        labels=labels,
        relevancies=table,
        captions=captions,
        one_sided=task(config.task).one_sided,
        seed=config.seed,
    )


def build_control(config: Config, *args: Any, **kwargs: Any) -> Control:
    """Return the configured control.

    Args:
        config: configuration of the run.
        args: of :func:`context`.
        kwargs: of :func:`context`.

    Raises:
        ValueError: classes that are needed and not known, or values that the control refuses.
    """
    control: Control = config.control.build(context(config, *args, **kwargs))
    return control


def build_further(config: Config, *args: Any, captions: Tensor | None) -> FurtherLosses | None:
    """Return the losses and terms of further modalities, each with its control; None for none.

    Args:
        config: configuration of the run.
        args: of :func:`context` but for captions.
        captions: see :func:`context`.
    """
    lines = further_of(config)
    if not lines:
        return None
    losses = [
        build_loss(line.config, *args, captions if CAPTION in line.sides else None)
        if line.term is None
        else None
        for line in lines
    ]
    return FurtherLosses(lines, losses)


def build_loss(config: Config, *args: Any, **kwargs: Any) -> ContrastiveLoss:
    """Return the configured loss, driven by the configured control.

    Args:
        config: configuration of the run.
        args: of :func:`context`.
        kwargs: of :func:`context`.

    Raises:
        ValueError: controls and options that mean nothing to the loss, or classes that are needed
            and not known.
    """
    loss_fn: ContrastiveLoss = config.loss.build(config.control, context(config, *args, **kwargs))
    return loss_fn


def check_loss(config: Config) -> bool:
    """Let loss and control refuse a combination before any data are read.

    Returns:
        Whether they keep something for each sample, and so for each caption.

    Raises:
        ValueError: with their reason.
    """
    with torch.random.fork_rng():
        loss_fn = build_loss(config, 2, torch.ones(2), total_steps=100, labels=["a", "b"])
    column = config.data.negatives
    if column is not None and loss_fn.no_negatives:
        raise ValueError(
            f"data.negatives={column}: family={config.family} takes no own negatives: "
            f"{loss_fn.no_negatives}; choose another family, such as infonce, or leave them out"
        )
    if column is not None and config.loss.mixed is not None:
        raise ValueError(
            f"data.negatives={column} and mixed negatives of a queue are both each pair's own: "
            "leave out one of data.negatives and loss.mixtures"
        )
    tables = [any(isinstance(part, SampleTable) for part in loss_fn.modules())]
    for line in further_of(config):
        if line.term is None:
            try:
                tables.append(check_loss(line.config))
            except ValueError as error:
                raise ValueError(f"losses: {line.name}: {error}") from error
    return any(tables)
