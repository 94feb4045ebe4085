"""From a configuration to towers, tokenizer, control and loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tauten.controls import Anneal, Constant, Control, Cosine, Learnable, mmts
from tauten.losses import DCL, ContrastiveLoss, InfoNCE, MaxMargin, SigLIP, SogCLR, iSogCLR
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
from tauten.training.config import Config, ControlConfig, ModelConfig


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


def build_control(config: ControlConfig, counts: Tensor | None, total_steps: int) -> Control:
    """The control over a training of ``total_steps`` optimiser steps.

    Args:
        config: which control.
        counts: (num_samples,) training count of each sample's class; needed by mmts and matched.
        total_steps: optimiser steps of the whole training.

    Raises:
        ValueError: mmts or matched without counts, or values that the control refuses.
    """
    if config.kind in ("constant", "individual"):
        return Constant(config.value)
    if config.kind == "learnable":
        return Learnable(config.value, config.low, config.high)
    period = total_steps / config.oscillations
    if config.kind == "cosine":
        return Cosine(config.low, config.high, period)
    if config.kind == "anneal":
        return Anneal(config.high, config.low, total_steps)
    if counts is None:
        raise ValueError(
            f"control.kind={config.kind} needs to know how dense each sample's class is: set "
            "data.label to a class column, or data.clusters to a number of caption clusters"
        )
    schedule = mmts(
        counts, config.alpha, (config.shift_low, config.shift_high), period, scale=config.scale
    )
    if config.kind == "mmts":
        return schedule
    return Constant(schedule.mean(torch.arange(len(counts)), total_steps))


def build_loss(config: Config, control: Control, num_samples: int) -> ContrastiveLoss:
    """The loss of the configured family, driven by this control.

    Args:
        config: of the run.
        control: temperature or margin.
        num_samples: size of the training split, for losses with a table.
    """
    force = config.loss.force
    if config.family == "infonce":
        return InfoNCE(control, force=force)
    if config.family == "maxmargin":
        return MaxMargin(control, force=force)
    if config.family == "dcl":
        return DCL(control, force=force)
    if config.family == "sogclr":
        return SogCLR(num_samples, control, config.loss.gamma)
    if config.family == "isogclr":
        return iSogCLR(
            num_samples,
            rho=config.loss.rho,
            gamma=config.loss.gamma,
            tau_init=config.control.value,
            tau_range=(config.control.low, config.control.high),
            lr=config.loss.tau_lr,
            beta=config.loss.tau_beta,
        )
    bias = Learnable(config.loss.bias, low=-100.0, high=100.0)
    return SigLIP(control, bias, force=force)
