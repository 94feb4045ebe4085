"""An encoder that follows another one slowly."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tauten.checks import finite
from tauten.modules import StateModule


class MomentumEncoder(nn.Module):
    """A copy θ' of an encoder θ that moves by θ' ← m·θ' + (1 − m)·θ and takes no gradient.

    He et al., Momentum Contrast, CVPR 2020. Buffers, such as the statistics of batch
    normalisation, are its own. Parameters in bfloat16 or float16 are also kept in float32, where
    they move: a step of 1 − m is too small for the digits that they have.

    Args:
        encoder: what to follow.
        momentum: m in [0, 1); MoCo has 0.999.

    Raises:
        ValueError: a momentum outside [0, 1).
    """

    def __init__(self, encoder: nn.Module, momentum: float = 0.999) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module):
            raise TypeError(f"encoder must be a module, got {type(encoder).__name__}")
        if not 0 <= finite("momentum", momentum) < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.momentum = momentum
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.exact = _Exact()

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the copy's output, without a gradient."""
        return self.encoder(*args, **kwargs)

    @torch.no_grad()
    def update(self, encoder: nn.Module) -> None:
        """Move towards the encoder's parameters; call it once after each optimiser step.

        Raises:
            ValueError: an encoder with other parameters.
        """
        averages, weights = dict(self.encoder.named_parameters()), dict(encoder.named_parameters())
        if averages.keys() != weights.keys():
            other = sorted(averages.keys() ^ weights.keys())
            raise ValueError(f"the encoder has other parameters than the copy: {other[:5]}")
        for name, parameter in averages.items():
            exact = self.exact.of(name, parameter)
            exact.lerp_(weights[name].to(exact.dtype), 1 - self.momentum)
            if exact is not parameter:
                parameter.copy_(exact)


class _Exact(StateModule):
    """Parameters of a low precision in float32, one buffer for each."""

    def of(self, name: str, parameter: Tensor) -> Tensor:
        """Return the parameter in float32; itself where it has at least that."""
        if parameter.dtype.itemsize >= 4:
            return parameter
        buffer = name.replace(".", "/")
        average = self._buffers.get(buffer)
        # a parameter that was loaded or set meanwhile counts, and not what was kept before
        if average is None or not torch.equal(average.to(parameter.dtype), parameter):
            average = parameter.detach().float()
            self.register_buffer(buffer, average)
        return average

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        saved = [key[len(prefix) :] for key in state_dict if key.startswith(prefix)]
        self._buffers.clear()
        for name in saved:
            self.register_buffer(name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
