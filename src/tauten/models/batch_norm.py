"""Batch normalisation over the batch of all processes, on any device.

Shapes: N rows of this process, C channels, then any number of places.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

_Found = tuple[Tensor, Tensor, Tensor, Tensor]


class BatchNorm(_BatchNorm):
    """``nn.BatchNorm1d``, ``2d`` and ``3d`` with the statistics of the whole batch.

    On one process, and in evaluation, it is torch's own, bit for bit. In training over several
    processes mean, variance and gradients are those of all rows, also on uneven shards, of which
    some may be empty; all processes call together. Arguments and ``state_dict()`` are torch's.

    Raises:
        ValueError: a single value per channel in the whole batch (in ``forward``).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, ...) to the same shape."""
        if not self.training or not _several():
            return super().forward(input)
        self._check_input_dim(input)
        y, mean, variance, rows = _apply(input, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._track(mean, variance * (rows / (rows - 1)))
        return y

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = self.momentum
        if share is None:
            share = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch normalisation needs (N, C, ...), got {tuple(input.shape)}")


def with_whole_batches(module: nn.Module) -> nn.Module:
    """Give torch's batch normalisations in a module the statistics of the whole batch, in place."""
    if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        module.__class__ = BatchNorm
    for child in module.children():
        with_whole_batches(child)
    return module


def _several() -> bool:
    together = distributed.is_available() and distributed.is_initialized()
    return together and distributed.get_world_size() > 1


def _apply(input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> _Found:
    normalised: _Found = _Normalise.apply(input, weight, bias, eps)  # type: ignore[no-untyped-call]
    return normalised


def _total(*parts: Tensor) -> list[Tensor]:
    """Return the sums over processes of vectors, in one message of float64."""
    whole = torch.cat([part.double() for part in parts])
    distributed.all_reduce(whole)
    return list(whole.split([len(part) for part in parts]))


class _Normalise(torch.autograd.Function):
    """(x − mean)/√(variance + ε) · weight + bias; also mean, variance (C,) and rows ()."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> _Found:
        wide = input if input.dtype == torch.float64 else input.float()
        dims = [0, *range(2, input.dim())]
        per_channel = (1, -1, *[1] * (input.dim() - 2))
        count = input.numel() // input.shape[1]
        sums, rows = _total(wide.sum(dims), wide.new_tensor([count]))
        if count < 2 and rows < 2:
            raise ValueError(
                "batch normalisation needs more than one value per channel in training"
            )
        rows = rows.squeeze(0)
        mean = sums / rows
        centred = wide - mean.to(wide).view(per_channel)
        (squares,) = _total(centred.square().sum(dims))
        variance = squares / rows
        scale = (variance + eps).rsqrt().to(wide).view(per_channel)
        normed = centred * scale
        ctx.save_for_backward(normed, scale, rows, weight)
        ctx.dims, ctx.has_bias = dims, bias is not None
        y = normed.clone() if weight is None else normed * weight.view(per_channel)
        y = y if bias is None else y + bias.view(per_channel)
        ctx.mark_non_differentiable(mean, variance, rows)
        return y.to(input.dtype), mean, variance, rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        normed, scale, rows, weight = ctx.saved_tensors
        wide = cotangent.to(normed)
        plain, along = wide.sum(ctx.dims), (wide * normed).sum(ctx.dims)
        both = [(part / rows).to(wide).view(scale.shape) for part in _total(plain, along)]
        inner = (wide - both[0] - normed * both[1]) * scale
        if weight is not None:
            inner = inner * weight.to(wide).view(scale.shape)
        to_weight = None if weight is None else along.to(weight)
        to_bias = plain.to(cotangent.dtype if weight is None else weight.dtype)
        return inner.to(cotangent), to_weight, to_bias if ctx.has_bias else None, None
