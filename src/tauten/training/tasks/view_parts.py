"""Module, batches and validation of a training of two views."""

from __future__ import annotations

import torch
from torch import Tensor

from tauten.models import ViewEncoder
from tauten.models.batch_norm import with_whole_batches
from tauten.models.rebuild import check_rebuilds, check_repeats
from tauten.training import processes
from tauten.training.build import build_loss
from tauten.training.encoders import build_view_encoder
from tauten.training.initial import Initial
from tauten.training.loop.compute import compiled, fitted
from tauten.training.tasks.instances import instances, shares
from tauten.training.tasks.task import Built, Task, Training
from tauten.training.tasks.view_features import Sides, encode_features


def build(task: Task, training: Training, start: Initial | None = None) -> Built:
    """Build the module and the batches of two-view training; there is no tokenizer.

    Raises:
        ValueError: images that the tower cannot take, or see
            :func:`tauten.training.build.build_loss`.
    """
    config, steps, train = training.config, training.steps, training.splits["train"]
    classes = training.classes
    counts = classes.per_sample(train.labels) if classes and train.labels else None
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        encoder = build_view_encoder(config.model)
        if start is not None:
            encoder = start.views(config, encoder)
        loss_fn = build_loss(
            config, len(train), counts, steps.total, train.labels, per_epoch=steps.per_epoch
        )
        if start is not None:
            start.loss(config, loss_fn)
        check_rebuilds(encoder.tower)
        with torch.no_grad():
            check_repeats(encoder.tower, *(encoder.eval()(train.images[:1]) for _ in range(2)))
    fitted(encoder, config.model, config.form, config.seed)
    if processes.count() > 1:
        with_whole_batches(encoder)
    if config.optim.compile:
        compiled(encoder)
    module = task.module(config, encoder.train(), loss_fn)
    return Built(module, task.store(train, None, config.data))


def validate(training: Training, encoder: ViewEncoder, step: int) -> dict[str, float]:
    """Return neighbours of the validation split in the training split, and the step as "last".

    Without classes it is whether the other view of each picture is found.
    """
    settings, splits = training.config.evaluation, training.splits
    if training.classes is None:
        right = instances(encoder, splits["val"], settings.batch_size, training.config.progress)
        return processes.first(lambda: _of_instances(right) | {"last": float(step)})
    known, x = (
        encode_features(encoder, splits[name], settings.batch_size, training.config.progress)
        for name in ("train", "val")
    )
    return processes.first(lambda: _scores(training, known, x) | {"last": float(step)})


def _of_instances(right: dict[str, Tensor] | None) -> dict[str, float]:
    assert right is not None
    return shares(right, intervals=False)


def _scores(training: Training, known: Tensor | None, x: Tensor | None) -> dict[str, float]:
    assert training.classes is not None
    assert known is not None
    assert x is not None
    splits = training.splits
    sides = Sides.of(known, splits["train"], x, splits["val"], training.classes)
    return sides.accuracies(sides.right("none"), bootstrap=0)
