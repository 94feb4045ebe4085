"""Batch normalisation over the batch of all processes, on any device.

Shapes: N rows of this process, C channels, then any number of places.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from tauten.messages import gather_equal, several_processes

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
        if not self.training or not several_processes():
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


def _apply(input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> _Found:
    normalised: _Found = _Normalise.apply(input, weight, bias, eps)  # type: ignore[no-untyped-call]
    return normalised


class _Normalise(torch.autograd.Function):
    """(x − mean)/√(variance + ε) · weight + bias; also mean, variance (C,) and rows ().

    Each way sends one message: forward the number, mean and squares about it of each process, which
    are joined by the rule of Chan, Golub and LeVeque (1979); backward two sums.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> _Found:
        wide = input if input.dtype == torch.float64 else input.float()
        channels = input.shape[1]
        count = input.numel() // channels
        mean, variance = _moments(wide)
        number = mean.new_tensor([float(count)])
        parts = gather_equal(torch.cat([number, mean, variance * count]))
        counts, means, squares = parts.split([1, channels, channels], dim=1)
        rows = counts.sum()
        if count < 2 and rows < 2:
            raise ValueError(
                "batch normalisation needs more than one value per channel in training"
            )
        mean = (counts * means).sum(0) / rows
        variance = (squares + counts * (means - mean).square()).sum(0) / rows
        ctx.save_for_backward(wide, mean, variance, rows, weight)
        ctx.eps, ctx.has_bias = eps, bias is not None
        ctx.dtypes = (input.dtype, input.dtype if bias is None else bias.dtype)
        ctx.mark_non_differentiable(mean, variance, rows)
        y = _normalised(wide, mean, variance, weight, bias, eps)
        return y.to(input.dtype), mean, variance, rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        wide, mean, variance, rows, weight = ctx.saved_tensors
        g = cotangent.to(wide)
        plain, along = _sums(g, wide, mean, variance, ctx.eps)
        whole = torch.cat([plain, along]).double()
        distributed.all_reduce(whole)
        factor = (variance + ctx.eps).rsqrt()
        if weight is not None:
            factor = factor * weight
        of_plain, of_along = (-factor * part / rows for part in whole.chunk(2))
        inner = _normalised(wide, mean, variance, of_along, of_plain, ctx.eps)
        inner.addcmul_(g, factor.to(wide).view(1, -1, *[1] * (wide.dim() - 2)))
        to_input, to_bias = ctx.dtypes
        return (
            inner.to(to_input),
            None if weight is None else along.to(weight),
            plain.to(to_bias) if ctx.has_bias else None,
            None,
        )


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and variance (C,) of the rows of this process in float64, 0 of no rows."""
    if not x.numel():
        nothing = x.new_zeros(x.shape[1], dtype=torch.float64)
        return nothing, nothing
    if x.device.type in ("cpu", "cuda"):  # torch's own passes
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
    else:
        variance, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
    return mean.double(), variance.double()


def _normalised(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """Return (x − mean)/√(variance + ε) · weight + bias, by torch's own pass."""
    if not x.numel():
        return x.clone()
    at, scale = (None if part is None else part.to(x) for part in (bias, weight))
    return functional.batch_norm(x, mean.to(x), variance.to(x), scale, at, False, 0.0, eps)


def _sums(
    g: Tensor, x: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return Σ g and Σ g·(x − mean)/√(variance + ε), (C,), over the rows of this process."""
    if not x.numel():
        return x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
    of_all = mean.to(x), variance.to(x)
    gradients = torch.ops.aten.native_batch_norm_backward(
        *(g, x, torch.ones_like(of_all[0]), *of_all, None, None, False, eps, [False, True, True])
    )
    return gradients[2], gradients[1]
