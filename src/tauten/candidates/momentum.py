"""An encoder that follows another one slowly."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class MomentumEncoder(nn.Module):
    """A copy θ' of an encoder θ that moves by θ' ← m·θ' + (1 − m)·θ and takes no gradient.

    He et al., Momentum Contrast, CVPR 2020. Buffers, such as the statistics of batch
    normalisation, are its own.

    Args:
        encoder: what to follow.
        momentum: m in [0, 1); MoCo has 0.999.

    Raises:
        ValueError: a momentum outside [0, 1).
    """

    def __init__(self, encoder: nn.Module, momentum: float = 0.999) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.momentum = momentum
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The copy's output, without a gradient."""
        return self.encoder(*args, **kwargs)

    @torch.no_grad()
    def update(self, encoder: nn.Module) -> None:
        """Move towards the encoder's parameters; call it once after each optimiser step.

        Raises:
            ValueError: an encoder with other parameters.
        """
        mine, theirs = dict(self.encoder.named_parameters()), dict(encoder.named_parameters())
        if mine.keys() != theirs.keys():
            other = sorted(mine.keys() ^ theirs.keys())
            raise ValueError(f"the encoder has other parameters than the copy: {other[:5]}")
        for name, parameter in mine.items():
            parameter.lerp_(theirs[name].to(parameter.dtype), 1 - self.momentum)
