"""From a configuration to towers, tokenizer, control and loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tauten.controls import (
    MACL,
    Anneal,
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
)
from tauten.losses import (
    DCL,
    NUCLR,
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
    HFImageTower,
    HFTextTower,
    HFTokenizer,
    Tokenizer,
)
from tauten.models.tower import Tower
from tauten.training.config import Config, ModelConfig


def build_tokenizer(config: ModelConfig, texts: Sequence[str]) -> Tokenizer:
    """The tokenizer of the text tower; a built-in one gets its vocabulary from these texts."""
    if config.text == "words":
        return BagTokenizer.fit(texts, "words", max_length=config.max_tokens)
    if config.text == "ngrams":
        return BagTokenizer.fit(texts, "ngrams", max_length=config.max_tokens * 8)
    return HFTokenizer.load(config.text, config.max_tokens)


def build_encoder(config: ModelConfig, vocabulary_size: int) -> DualEncoder:
    """The towers, with random or pretrained weights."""
    return DualEncoder(
        _image_tower(config),
        _text_tower(config, vocabulary_size),
        config.dim,
        config.augmentation if config.augment else None,
    )


def _image_tower(config: ModelConfig) -> Tower:
    if config.image == "convolutional":
        return ConvTower(config.channels, config.grid)
    if config.random_weights:
        return HFImageTower.from_config(_hf_config(config.image))
    return HFImageTower.from_pretrained(config.image)


def _text_tower(config: ModelConfig, vocabulary_size: int) -> Tower:
    if config.text in ("words", "ngrams"):
        return BagTower(vocabulary_size, config.text_width)
    if config.random_weights:
        return HFTextTower.from_config(_hf_config(config.text))
    return HFTextTower.from_pretrained(config.text)


def _hf_config(name: str | Path) -> object:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(name)


def build_control(
    config: Config, num_samples: int, counts: Tensor | None, total_steps: int
) -> Control:
    """The control over a training.

    Args:
        config: of the run.
        num_samples: size of the training split.
        counts: (num_samples,) training count of each sample's class; needed by mmts and matched.
        total_steps: optimiser steps of the whole training.

    Raises:
        ValueError: mmts or matched without counts, or values that the control refuses.
    """
    control = config.control
    bounds = (control.low, control.high)
    period = total_steps / control.oscillations
    if control.kind == "constant":
        return Constant(control.value)
    if control.kind == "learnable":
        return Learnable(control.value, *bounds)
    if control.kind == "cosine":
        return Cosine(*bounds, period)
    if control.kind == "anneal":
        return Anneal(control.high, control.low, total_steps)
    if control.kind == "individual":
        loss = config.loss
        return Individual(
            num_samples,
            tau_init=control.value,
            tau_range=bounds,
            lr=loss.tau_lr,
            beta=loss.tau_beta,
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
    if counts is None:
        raise ValueError(
            f"control.kind={control.kind} needs to know how dense each sample's class is: set "
            "data.label to a class column, or data.clusters to a number of caption clusters"
        )
    shift = (control.shift_low, control.shift_high)
    schedule = mmts(counts, control.alpha, shift, period, scale=control.scale)
    if control.kind == "mmts":
        return schedule
    return Constant(schedule.mean(torch.arange(len(counts)), total_steps))


def build_loss(
    config: Config, num_samples: int, counts: Tensor | None, total_steps: int
) -> ContrastiveLoss:
    """The loss of the configured family, driven by the configured control.

    Args and errors are those of :func:`build_control`; the loss also refuses controls and options
    that mean nothing to it.
    """
    if config.family == "fastclip":
        return _fastclip(config, num_samples, total_steps)
    loss = config.loss
    control = build_control(config, num_samples, counts, total_steps)
    force: dict[str, Any] = {} if loss.force == "plain" else {"force": loss.force}
    if config.family == "infonce":
        return InfoNCE(control, **force)
    if config.family == "maxmargin":
        return MaxMargin(control, **force)
    if config.family == "dcl":
        return DCL(control, **force)
    if config.family == "siglip":
        return SigLIP(control, Learnable(loss.bias, low=-100.0, high=100.0), **force)
    if config.family == "nuclr":
        return NUCLR(num_samples, control, loss.gamma, loss.zeta_lr, **force)
    return SogCLR(num_samples, control, loss.gamma, **_rho(config), **force)


def _fastclip(config: Config, num_samples: int, total_steps: int) -> FastCLIP:
    loss, control = config.loss, config.control
    force: dict[str, Any] = {} if loss.force == "plain" else {"force": loss.force}
    falls = loss.gamma_epochs * total_steps
    return FastCLIP(
        num_samples,
        loss.version,
        Anneal(1.0, loss.gamma, falls, every=max(1, round(total_steps / config.optim.epochs))),
        tau_init=control.value,
        tau_range=(control.low, control.high),
        tau_lr=loss.tau_lr,
        **_rho(config),
        **force,
    )


def _rho(config: Config) -> dict[str, Any]:
    return {} if config.loss.rho is None else {"rho": config.loss.rho}


def check_loss(config: Config) -> None:
    """Let loss and control refuse a combination before any data are read.

    Raises:
        ValueError: with their reason.
    """
    with torch.random.fork_rng():
        build_loss(config, num_samples=2, counts=torch.ones(2), total_steps=100)
