"""From a configuration to towers, tokenizer, control and loss."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tauten.controls import (
    MACL,
    Anneal,
    ClusterShift,
    Constant,
    Control,
    Cosine,
    DySTreSS,
    Individual,
    Learnable,
    TaU,
    TeMo,
    TempNet,
    mmts,
    shuffled_counts,
)
from tauten.losses import (
    DCL,
    NUCLR,
    SMS,
    ContrastiveLoss,
    FastCLIP,
    InfoNCE,
    MaxMargin,
    SigLIP,
    SogCLR,
)
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
    Tokenizer,
    VideoTower,
    ViewEncoder,
    load_published,
)
from tauten.models.huggingface import read_config
from tauten.models.tower import Tower
from tauten.state import SampleTable
from tauten.training.config import POWERS, Config, ModelConfig
from tauten.training.pretrained import is_joint_model

logger = logging.getLogger("tauten.training")

#: residual networks with random weights, by name; "-cifar" has the stem for small images
_RESNETS: dict[str, Callable[[], Tower]] = {
    "resnet18": partial(ResNetTower, 18),
    "resnet34": partial(ResNetTower, 34),
    "resnet50": partial(ResNetTower, 50),
    "resnet18-cifar": partial(ResNetTower, 18, "cifar"),
    "resnet50-cifar": partial(ResNetTower, 50, "cifar"),
}


def build_tokenizer(config: ModelConfig, texts: Sequence[str]) -> Tokenizer:
    """The tokenizer of the text tower; a built-in one gets its vocabulary from these texts."""
    if config.text == "words":
        return BagTokenizer.fit(texts, "words", max_length=config.max_tokens)
    if config.text == "ngrams":
        return BagTokenizer.fit(texts, "ngrams", max_length=config.max_tokens * 8)
    return HFTokenizer.load(config.text, config.max_tokens)


def build_encoder(
    config: ModelConfig,
    vocabulary_size: int,
    frames: int = 0,
    image_size: int | None = None,
    features: int = 0,
) -> DualEncoder:
    """The towers, with random or pretrained weights.

    Args:
        config: of the towers.
        vocabulary_size: of the tokenizer.
        frames: of each clip; 0 for images.
        image_size: of their frames; needed by published towers of clips only.
        features: width of the vectors in the place of images, for model.image=features.

    Raises:
        ValueError: a published dual encoder with other texts or another width than configured.
    """
    if config.image.endswith((".pt", ".pth")):
        return _published(config, vocabulary_size, frames, image_size)
    if config.image == "features":
        tower = FeatureTower(features, config.feature_hidden)
        return DualEncoder(tower, _text_tower(config, vocabulary_size), config.dim)
    augmentation = config.augmentation if config.augment else None
    if is_joint_model(config):
        encoder = DualEncoder.from_pretrained(
            config.image, config.text, config.dim, augmentation, config.text_pooling
        )
        _check_vocabulary(encoder.text_tower, vocabulary_size, config.text)
        if frames:
            encoder.image_tower = VideoTower(encoder.image_tower, config.temporal)
        return encoder
    images = _image_tower(config)
    return DualEncoder(
        VideoTower(images, config.temporal) if frames else images,
        _text_tower(config, vocabulary_size),
        config.dim,
        augmentation,
    )


def _published(
    config: ModelConfig, vocabulary_size: int, frames: int, image_size: int | None
) -> DualEncoder:
    """Both towers of a checkpoint of AVION or LaViLa."""
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
    """The image tower and a projector, for two views."""
    return ViewEncoder(_image_tower(config), config.dim, config.projector, config.views)


def _image_tower(config: ModelConfig) -> Tower:
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


def _text_tower(config: ModelConfig, vocabulary_size: int) -> Tower:
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
    known = tower.model.get_input_embeddings().num_embeddings
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


def build_control(
    config: Config,
    num_samples: int,
    counts: Tensor | None,
    total_steps: int,
    labels: Sequence[str] | None = None,
    per_epoch: int | None = None,
    captions: Tensor | None = None,
) -> Control:
    """The control over a training.

    Args:
        config: of the run.
        num_samples: size of the training split.
        counts: (num_samples,) training count of each sample's class; needed by mmts and matched.
        total_steps: optimiser steps of the whole training.
        labels: class of each sample; needed by shuffled sizes.
        per_epoch: optimiser steps of an epoch; None for the total over ``optim.epochs``.
        captions: (num_samples,) how many captions each sample has, where they have ids of their
            own; the count of each is that of its sample.

    Raises:
        ValueError: mmts or matched without counts, shuffled sizes without labels, or values that
            the control refuses.
    """
    control = config.control
    bounds = (control.low, control.high)
    period = total_steps / control.oscillations
    if control.kind == "constant":
        return Constant(control.value)
    if control.kind == "learnable":
        return Learnable(control.value, *bounds)
    if control.kind == "cosine":
        if control.every == "step":
            return Cosine(*bounds, period)
        epoch = per_epoch or _epoch(config, total_steps)
        return Cosine(*bounds, period, phase=2 * math.pi * epoch / period, every=epoch)
    if control.kind == "anneal":
        return Anneal(control.high, control.low, total_steps)
    if control.kind == "individual":
        loss = config.loss
        return Individual(
            _sizes(num_samples, captions),
            tau_init=control.value,
            tau_range=bounds,
            lr=loss.tau_lr,
            beta=loss.tau_beta,
            max_gradient=loss.tau_clip,
            **_rho(config),
        )
    if control.kind == "tempnet":
        return TempNet(config.model.dim, tau_range=bounds, **_rho(config))
    if control.kind == "tau_uncertainty":
        return TaU(config.model.dim, control.value, control.high)
    if control.kind == "dystress":
        return DySTreSS(*bounds, control.peak, control.width)
    if control.kind == "temo":
        return TeMo(*bounds)
    if control.kind == "macl":
        return MACL(control.value, control.slope, control.threshold)
    schedule = _schedule(config, counts, total_steps, labels, captions)
    return schedule if control.kind == "mmts" else Constant(_mean(schedule, counts, total_steps))


def _sizes(num_samples: int, captions: Tensor | None) -> int | tuple[int, int]:
    """Return the size of the data set, or of each side where captions have ids of their own."""
    return num_samples if captions is None else (num_samples, int(captions.sum()))


def _of_sides(counts: Tensor, captions: Tensor | None) -> Any:
    """Return the counts, or (those of samples, those of captions): each that of its sample.

    So both anchors of a pair have one value.
    """
    return counts if captions is None else (counts, counts.repeat_interleave(captions))


def _schedule(
    config: Config,
    counts: Tensor | None,
    total_steps: int,
    labels: Sequence[str] | None,
    captions: Tensor | None,
) -> Control:
    """The configured mmts schedule, or what a comparison puts in its place, of the same mean."""
    control = config.control
    if counts is None:
        raise ValueError(
            f"control.kind={control.kind} needs to know how dense each sample's class is: set "
            "data.label to a class column, or data.clusters to a number of caption clusters"
        )
    _check_known(counts, f"control.kind={control.kind}")
    ends, scale = (control.shift_low, control.shift_high), control.scale
    period = total_steps / control.oscillations
    sides = _of_sides(counts, captions)
    if control.part == "both" and control.sizes == "true":
        return mmts(sides, control.alpha, ends, period, scale=scale)
    oscillation = Cosine(-control.alpha / 2, control.alpha / 2, period)
    shift: Control = ClusterShift(sides, *ends, scale=scale)
    level = _mean(shift, counts, 1)
    if control.part == "oscillation":
        return oscillation + level
    if control.sizes == "reversed":
        shift = level / _mean(1 / shift, counts, 1) / shift
    elif control.sizes == "shuffled":
        if labels is None:
            raise ValueError(
                "control.sizes=shuffled exchanges the sizes of classes: give the class of each "
                "sample as labels"
            )
        shuffled = _of_sides(shuffled_counts(counts, labels, config.seed), captions)
        drawn = ClusterShift(shuffled, *ends, scale=scale)
        shift = drawn + (level - _mean(drawn, counts, 1))
    if control.part == "shift":
        return shift + oscillation.mean(torch.zeros(1, dtype=torch.int64), total_steps)
    return oscillation + shift


def _check_known(counts: Tensor, option: str) -> None:
    """Refuse samples without a class, whose count is 0."""
    unknown = (counts == 0).nonzero().flatten().tolist()
    if unknown:
        raise ValueError(
            f"{option} needs the class of every training sample, and {len(unknown)} of "
            f"{len(counts)} have none in the column data.label, first: sample {unknown[0]}: label "
            "them, leave those rows out, or give data.clusters (caption clusters) in place of "
            "data.label"
        )


def _rarity(
    config: Config, counts: Tensor | None, power: float, captions: Tensor | None
) -> Control:
    """Weights n^−power, n the size of the sample's class, over their mean."""
    if counts is None:
        raise ValueError(
            "loss.weight by count needs to know the size of each sample's class: set data.label to "
            "a class column, or data.clusters to a number of caption clusters"
        )
    _check_known(counts, f"loss.weight={config.loss.weight}")
    sizes = counts.double() ** power
    ends = float(sizes.min()), float(sizes.max())
    table = ClusterShift(_of_sides(sizes, captions), *ends)
    return 1 / _mean(1 / table, counts, 1) / table


def _mean(control: Control, counts: Tensor | None, steps: int) -> float:
    """Its mean over all training samples and these steps."""
    return control.mean(torch.arange(0 if counts is None else len(counts)), steps)


def build_loss(
    config: Config,
    num_samples: int,
    counts: Tensor | None,
    total_steps: int,
    labels: Sequence[str] | None = None,
    table: Tensor | None = None,
    per_epoch: int | None = None,
    captions: Tensor | None = None,
) -> ContrastiveLoss:
    """The loss of the configured family, driven by the configured control.

    Args and errors are those of :func:`build_control`, and ``table``, relevancies between kinds of
    images and of captions, for sms; the loss also refuses controls and options that mean nothing to
    it.
    """
    if config.family == "fastclip":
        return _fastclip(config, _sizes(num_samples, captions), total_steps, per_epoch)
    loss = config.loss
    control = build_control(config, num_samples, counts, total_steps, labels, per_epoch, captions)
    force: dict[str, Any] = {} if loss.force == "plain" else {"force": loss.force}
    if config.task == "views":
        force["directions"] = "x2y"
    if loss.weight == "inverse_tau":
        schedule = _schedule(config, counts, total_steps, labels, captions)
        force["weight"] = _mean(schedule, counts, total_steps) / schedule
    elif loss.weight in POWERS:
        force["weight"] = _rarity(config, counts, POWERS[loss.weight], captions)
    if config.family == "infonce":
        return InfoNCE(control, **force)
    if config.family == "maxmargin":
        return MaxMargin(control, **force)
    if config.family == "sms":
        return SMS(control, table=table, **force)
    if config.family == "dcl":
        return DCL(control, **force)
    if config.family == "siglip":
        return SigLIP(control, Learnable(loss.bias, low=-100.0, high=100.0), **force)
    sizes = _sizes(num_samples, captions)
    if config.family == "nuclr":
        return NUCLR(sizes, control, loss.gamma, loss.zeta_lr, **force)
    return SogCLR(sizes, control, loss.gamma, **_rho(config), **force)


def _fastclip(
    config: Config,
    num_samples: int | tuple[int, int],
    total_steps: int,
    per_epoch: int | None,
) -> FastCLIP:
    loss, control = config.loss, config.control
    force: dict[str, Any] = {} if loss.force == "plain" else {"force": loss.force}
    falls = loss.gamma_epochs * total_steps
    return FastCLIP(
        num_samples,
        loss.version,
        Anneal(1.0, loss.gamma, falls, every=per_epoch or _epoch(config, total_steps)),
        tau_init=control.value,
        tau_range=(control.low, control.high),
        tau_lr=loss.tau_lr,
        **_rho(config),
        **force,
    )


def _epoch(config: Config, total_steps: int) -> int:
    """Optimiser steps of an epoch, where only those of the training are known."""
    return max(1, round(total_steps / config.optim.epochs))


def _rho(config: Config) -> dict[str, Any]:
    return {} if config.loss.rho is None else {"rho": config.loss.rho}


def check_loss(config: Config) -> bool:
    """Let loss and control refuse a combination before any data are read.

    Returns:
        Whether they keep something for each sample, and so for each caption.

    Raises:
        ValueError: with their reason.
    """
    with torch.random.fork_rng():
        loss_fn = build_loss(config, 2, torch.ones(2), total_steps=100, labels=["a", "b"])
    return any(isinstance(part, SampleTable) for part in loss_fn.modules())
