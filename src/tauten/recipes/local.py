"""Any recipe as a trial of about a minute on two cores."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
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

EPOCHS = 4.0
LIMIT = 1024
_TINY = {"coco35": 8}
_VIDEOS = ("msrvtt", "youcook2")
_RELEVANT = "multi_instance/mAP_official/mean"


def local(recipe: Callable[..., Config], source: str | None = None) -> Config:
    """A recipe's trial; see :func:`runlocal`.

    Args:
        recipe: one of ``RECIPES``.
        source: data to try it on, NAME:FOLDER; by default the embedded emoji_lt.
    """
    whole = recipe()
    if "runlocal" not in inspect.signature(recipe).parameters:
        return runlocal(whole, source)
    name, _, root = (source or "").partition(":")
    known = name == "caltech98_lt" and root
    config = recipe(runlocal=True, data=Path(root) if known else None)
    return _marked(config)


def runlocal(config: Config, source: str | None = None) -> Config:
    """The same loss and control at a size of about a minute on two cores.

    Towers are the small built-in ones, there are at most 1,024 samples of each split and 4 epochs,
    and classes are those of the data or 4 caption clusters. Name and results say that it is a
    trial; its numbers say nothing about the published ones.

    Args:
        config: of pairs; it is not changed.
        source: data to try it on, NAME:FOLDER, such as ``coco35:data``, ``emoji_video:data`` or
            ``epic_kitchens:data/ek100`` (with its videos where the configuration is of clips, else
            with its features, by default synthetic ones); by default the embedded emoji_lt.

    Raises:
        ValueError: a configuration of two views: their recipes take ``runlocal=True``.
    """
    if config.task != "pairs":
        raise ValueError(f"{config.name} trains on views: use local(recipe)")
    config = copy.deepcopy(config)
    config.control = specs.at_most(config.control, oscillations=2.0)
    config.data = _data(config, source or "emoji_lt")
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
