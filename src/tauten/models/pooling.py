"""Pooling of a Hugging Face model's output to one vector per sample."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Pooling = Literal[
    "auto", "pooler", "first", "last", "mean", "max", "weighted_mean", "mean_sqrt_len"
]


def pool(output: Any, mask: Tensor | None = None, pooling: Pooling = "auto") -> Tensor:
    """Return one vector per sample from a Hugging Face model's output.

    Args:
        output: has ``last_hidden_state`` (N, L, D), or (N, D, H, W) for convolutional models, and
            perhaps ``pooler_output``.
        mask: (N, L), 1 at tokens that count.
        pooling: ``"auto"`` takes ``pooler_output`` where there is one, else the mean over tokens
            or positions. The others look at tokens that count only: ``"first"``, e.g. [CLS];
            ``"last"``; ``"mean"``; ``"max"`` of each feature; ``"weighted_mean"``, with the weights
            1, 2, ... from the first token on; ``"mean_sqrt_len"``, the sum over the root of the
            number of tokens. They give 0 where no token counts.

    Returns:
        (N, D).

    Raises:
        ValueError: ``"pooler"`` without a ``pooler_output``, a pooling of tokens of a feature map,
            or an output that has neither field.
    """
    pooled = getattr(output, "pooler_output", None)
    if pooling == "pooler" and pooled is None:
        raise ValueError(
            f'{type(output).__name__} has no pooler_output; use pooling="mean" or "first"'
        )
    if pooled is not None and pooling in ("auto", "pooler"):
        return torch.as_tensor(pooled).flatten(1)
    hidden = getattr(output, "last_hidden_state", None)
    if hidden is None:
        raise ValueError(
            f"{type(output).__name__} has neither pooler_output nor last_hidden_state: this model "
            "cannot be a tower"
        )
    hidden = torch.as_tensor(hidden)
    if hidden.dim() == 4:
        if pooling not in ("auto", "mean"):
            raise ValueError(
                f"a feature map (N, D, H, W) has no {pooling.split('_')[0]} token; "
                'use pooling="mean"'
            )
        return hidden.mean(dim=(2, 3))
    return _over_tokens(hidden, mask, pooling)


def _over_tokens(hidden: Tensor, mask: Tensor | None, pooling: Pooling) -> Tensor:
    """Map (N, L, D) to (N, D)."""
    if mask is None and pooling in ("auto", "mean"):
        return hidden.mean(dim=1)
    mask = hidden.new_ones(hidden.shape[:2]) if mask is None else mask.to(hidden.dtype)
    if pooling == "first":
        return _at(hidden, mask.argmax(dim=1))
    if pooling == "last":
        return _at(hidden, mask.shape[1] - 1 - mask.flip(1).argmax(dim=1))
    weight = mask.unsqueeze(2)
    if pooling == "max":
        most = hidden.masked_fill(weight == 0, -torch.inf).amax(dim=1)
        return most.where(mask.any(dim=1, keepdim=True), 0.0)
    if pooling == "weighted_mean":
        weight = weight * weight.cumsum(dim=1)
    number = weight.sum(dim=1).clamp(min=1)
    return (hidden * weight).sum(dim=1) / (number.sqrt() if "sqrt" in pooling else number)


def _at(hidden: Tensor, place: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), place]
