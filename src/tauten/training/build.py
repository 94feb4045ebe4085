"""Towers, tokenizer, control and loss, built from a configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tauten.controls import Control
from tauten.losses import ContrastiveLoss
from tauten.models import (
    BagTokenizer,
    BagTower,
    ConvTower,
    DualEncoder,
    EfficientNetLite,
    FeatureTower,
    HFImageTower,
    HFTextTower,
    HFTokenizer,
    ResNetTower,
    TextEncoder,
    Tokenizer,
    VideoTower,
    ViewEncoder,
    load_published,
)
from tauten.models.huggingface import read_config
from tauten.models.tower import Tower
from tauten.spec import Context
from tauten.state import SampleTable
from tauten.structure.cells import short
from tauten.training.initial import Initial
from tauten.training.options.config import Config, ModelConfig
from tauten.training.options.further import CAPTION, further_of
from tauten.training.options.pretrained import is_joint_model
from tauten.training.specs import task
from tauten.training.tasks.further import FurtherLosses

logger = logging.getLogger("tauten.training")

#: captions that a tokenizer is tried on
_TRIED = 500

#: residual networks with random weights, by name; "-cifar" has the stem for small images
_RESNETS: dict[str, Callable[[], Tower]] = {
    "resnet18": partial(ResNetTower, 18),
    "resnet34": partial(ResNetTower, 34),
    "resnet50": partial(ResNetTower, 50),
    "resnet18-cifar": partial(ResNetTower, 18, "cifar"),
    "resnet50-cifar": partial(ResNetTower, 50, "cifar"),
}


def build_tokenizer(config: ModelConfig, texts: Sequence[str]) -> Tokenizer:
    """Build the tokenizer of the text tower; a built-in one learns its words from these texts."""
    if config.text == "words":
        return BagTokenizer.fit(texts, "words", max_length=config.max_tokens)
    if config.text == "ngrams":
        return BagTokenizer.fit(texts, "ngrams", max_length=config.max_tokens * 8)
    return HFTokenizer.load(config.text, config.max_tokens)


def check_texts(tokenizer: Tokenizer, captions: Sequence[Sequence[str]], name: str) -> None:
    """Refuse a tokenizer to which almost all captions are the same; tell of one that loses many.

    Some hundred captions are tried, one of each sample.

    Args:
        tokenizer: of the text tower.
        captions: of each sample.
        name: of the tokenizer, for messages.

    Raises:
        ValueError: fewer than one in ten differ as tokens.
    """
    every = max(1, len(captions) // _TRIED)
    texts = list(dict.fromkeys(texts_of[0] for texts_of in captions[::every]))
    if len(texts) < 2:
        return
    rows = tokenizer(texts)["input_ids"].tolist()
    first: dict[tuple[int, ...], str] = {}
    equal = [(first.setdefault(tuple(r), text), text) for r, text in zip(rows, texts, strict=True)]
    one, other = next((pair for pair in equal if pair[0] != pair[1]), ("", ""))
    said = (
        f"{name}: {len(texts)} different captions are {len(first)} different rows of tokens; "
        f"{short(one, 60)!r} and {short(other, 60)!r} are the same. Its tokenizer lacks their "
        "words, or model.max_tokens cuts them: save the model's own tokenizer beside it, or take "
        "a model that knows the language"
    )
    if 10 * len(first) < len(texts):
        raise ValueError(said)
    if 2 * len(first) < len(texts):
        logger.warning("%s", said)


def build_encoder(
    config: ModelConfig,
    vocabulary_size: int,
    frames: int = 0,
    image_size: int | None = None,
    features: int = 0,
    texts: bool = False,
) -> DualEncoder:
    """Build the towers, with random or pretrained weights.

    Args:
        config: of the towers.
        vocabulary_size: of the tokenizer.
        frames: of each clip; 0 for images.
        image_size: of their frames; needed by published towers of clips only.
        features: width of the vectors in the place of images, for model.image=features.
        texts: whether both sides are texts.

    Raises:
        ValueError: a published dual encoder with other texts or another width than configured.
    """
    if texts:
        return TextEncoder(text_tower(config, vocabulary_size), config.dim)
    if config.image.endswith((".pt", ".pth")):
        return _published(config, vocabulary_size, frames, image_size)
    augmentation = config.augmentation if config.augment else None
    if config.image == "features":
        augmentation = None
    if is_joint_model(config):
        encoder = DualEncoder.from_pretrained(
            config.image, config.text, config.dim, augmentation, config.text_pooling
        )
        _check_vocabulary(encoder.text_tower, vocabulary_size, config.text)
        if frames:
            encoder.image_tower = VideoTower(encoder.image_tower, config.temporal)
        return encoder
    return DualEncoder(
        image_tower(config, frames, features),
        text_tower(config, vocabulary_size),
        config.dim,
        augmentation,
    )


def started(start: Initial, config: Config, vocabulary_size: int, features: int = 0) -> DualEncoder:
    """Build the towers with the weights of another run, those that do not fit as configured.

    Args:
        start: that run.
        config: of the new one.
        vocabulary_size: of its tokenizer.
        features: width of the vectors in the place of images, for model.image=features.
    """
    model, frames = config.model, config.data.frames
    return start.dual(
        config,
        lambda: image_tower(model, frames, features),
        lambda: text_tower(model, vocabulary_size),
        features,
    )


def _published(
    config: ModelConfig, vocabulary_size: int, frames: int, image_size: int | None
) -> DualEncoder:
    """Load both towers of a checkpoint of AVION or LaViLa."""
    if not frames or config.text in ("words", "ngrams"):
        raise ValueError(
            f"{config.image} takes clips and the texts of CLIP: set data.frames, and model.text to "
            f"the name or folder of CLIP's tokenizer, got {frames} and {config.text!r}"
        )
    augmentation = config.augmentation if config.augment else None
    encoder = load_published(
        config.image, frames=frames, image_size=image_size, augmentation=augmentation
    )
    text: Any = encoder.text_tower
    known = text.model.config.vocab_size
    if vocabulary_size > known or config.dim != encoder.dim:
        raise ValueError(
            f"{config.image} knows {known} tokens and has model.dim={encoder.dim}: the tokenizer "
            f"{config.text!r} has {vocabulary_size}, and model.dim={config.dim}"
        )
    return encoder


def build_view_encoder(config: ModelConfig) -> ViewEncoder:
    """Build the image tower and a projector, for two views."""
    return ViewEncoder(_pictures(config), config.dim, config.projector, config.views)


def image_tower(config: ModelConfig, frames: int = 0, features: int = 0) -> Tower:
    """Build a tower of pictures, of clips of so many frames, or of features of this width."""
    if config.image == "features":
        return FeatureTower(features, config.feature_hidden)
    return VideoTower(_pictures(config), config.temporal) if frames else _pictures(config)


def _pictures(config: ModelConfig) -> Tower:
    if config.image == "convolutional":
        return ConvTower(config.channels, config.grid)
    if config.image in _RESNETS:
        return _RESNETS[config.image]()
    if config.image == "efficientnet-lite0":
        if config.random_weights:
            return EfficientNetLite(config.grid)
        return EfficientNetLite.from_pretrained(config.grid)
    if config.random_weights:
        return HFImageTower.from_config(read_config(config.image))
    return HFImageTower.from_pretrained(config.image)


def text_tower(config: ModelConfig, vocabulary_size: int) -> Tower:
    """Build a tower of texts."""
    if config.text in ("words", "ngrams"):
        return BagTower(vocabulary_size, config.text_width)
    if config.random_weights:
        tower = HFTextTower.from_config(read_config(config.text), pooling=config.text_pooling)
    else:
        tower = HFTextTower.from_pretrained(config.text, config.text_pooling)
    _check_vocabulary(tower, vocabulary_size, config.text)
    return tower


def _check_vocabulary(tower: Any, size: int, name: str) -> None:
    """Refuse a tokenizer with more tokens than the model; tell of one with less than half."""
    try:
        known = tower.model.get_input_embeddings().num_embeddings
    except NotImplementedError:  # the text part of CLIP in the first releases of transformers 5
        known = tower.model.config.vocab_size
    if size > known:
        raise ValueError(
            f"the tokenizer of {name} has {size:,} tokens, the model {known:,}: save the model's "
            "own tokenizer beside it"
        )
    if 2 * size < known:
        logger.warning(
            "%s: its tokenizer has %s tokens, the model has %s: is it the model's own?",
            name,
            f"{size:,}",
            f"{known:,}",
        )


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
