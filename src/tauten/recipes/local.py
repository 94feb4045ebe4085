"""Trials of any recipe, of about a minute on two cores."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path

from tauten.training import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    specs,
)

EPOCHS, VIEW_EPOCHS = 4.0, 6.0
LIMIT = 1024
_TINY = {"coco35": 8}
_VIDEOS = ("msrvtt", "youcook2")
_RELEVANT = "multi_instance/mAP_official/mean"


def runlocal(config: Config, source: str | None = None) -> Config:
    """Shrink a configuration to about a minute on two cores, with the same loss and control.

    Towers are the small built-in ones, there are at most 1,024 samples of each split and 4 epochs,
    and classes are those of the data or 4 caption clusters. Name and results say that it is a
    trial; its numbers say nothing about the published ones.

    Pairs of texts keep their data, or take those of ``source`` with the same columns.

    Two views keep their projector and train for 6 epochs on the whole of caltech98_lt, or on the
    drawings of emoji_lt with their classes.

    Args:
        config: configuration of the whole training; it is not changed.
        source: data to try it on, NAME:FOLDER, such as ``coco35:data``, ``emoji_video:data`` or
            ``epic_kitchens:data/ek100`` (with its videos where the configuration is of clips, else
            with its features, by default synthetic ones); by default the embedded emoji_lt. For
            two views ``caltech98_lt:FOLDER`` alone has a meaning.
    """
    config = copy.deepcopy(config)
    config.control = specs.at_most(config.control, oscillations=2.0)
    if config.task == "views":
        return _marked(_views(config, source or "emoji_lt"))
    config.data = (
        replace(config.data, source=source or config.data.source, limit=LIMIT)
        if config.data.texts
        else _data(config, source or "emoji_lt")
    )
    config.model = _model(config)
    rate = config.optim.loss_lr
    config.optim = OptimConfig(
        epochs=EPOCHS,
        batch_size=_TINY.get(config.data.source.partition(":")[0], 64),
        loss_lr=None if rate is None else 3e-3,
    )
    config.evaluation = EvaluationConfig(
        every=EPOCHS / 2, metric=_RELEVANT if config.data.graded else "mean_recall", bootstrap=200
    )
    return _marked(config)


def _views(config: Config, source: str) -> Config:
    epochs = min(config.optim.epochs, VIEW_EPOCHS)
    known = re.fullmatch("caltech98_lt:.+", source) is not None
    config.data = DataConfig(source=source if known else "emoji_lt", label="label", groups="thirds")
    config.model = ModelConfig(
        channels=(32, 64, 128), grid=2, dim=128, projector=config.model.projector
    )
    config.optim = OptimConfig(epochs=epochs, batch_size=256, lr=2e-3, weight_decay=1e-4)
    config.evaluation = EvaluationConfig(every=max(1.0, epochs / 2), metric="knn@10/class_mean")
    config.loss = specs.at_most(config.loss, queue=1024)
    return config


def _data(config: Config, source: str) -> DataConfig:
    name, given, graded = source.partition(":")[0], config.data, config.data.graded
    data = DataConfig(source=source, limit=LIMIT, image_size=32)
    if name == "epic_kitchens":
        data = replace(data, label=given.label or "noun")
        if given.frames:
            return replace(data, frames=4)
        return replace(data, features=given.features or "synthetic")
    if name == "emoji_video":
        video = replace(data, label="label", frames=4, strip=8, image_size=24)
        return replace(video, relevancy="names" if graded else "none")
    if name == "emoji_lt":
        return replace(data, label="label", relevancy="names" if graded else "none")
    frames = 4 if name in _VIDEOS else 0
    return replace(data, frames=frames, clusters=4 if given.clusters or given.label else 0)


def _model(config: Config) -> ModelConfig:
    features = config.data.features is not None
    return ModelConfig(
        image="features" if features else "convolutional",
        feature_hidden=config.model.feature_hidden and 64,
        channels=(16, 32, 64),
        grid=3 if config.data.image_size == 24 else 4,
        dim=128,
        text_width=128,
        augment=config.model.augment and not features,
    )


def _marked(config: Config) -> Config:
    whole = config.name
    config.name, config.runlocal = f"{whole} (runlocal)", True
    config.output = Path("runs") / f"{whole}-runlocal"
    config.log_every = 2
    return config
