"""Numbers that are kept out of the denormal range, in which a CPU computes ten times slower.

A weight below exp(-71) of its row's largest, or a gradient below 1e-23 of the largest (float32), is
taken for 0: what is lost is less than the rounding of anything that it would be added to, or
nothing at all. A GPU takes denormals as they come.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from tauten.reads import FREE

#: for sums below exp(±this) exp stays finite, and a gradient of 1e-8 over it has its digits in
#: float32, whose smallest normal number is 1e-38
SAFE_EXPONENT = 70.0
#: largest cotangent below which all are scaled, so that products with weights keep their digits
_SMALL = 1e-8


@cache
def least(dtype: torch.dtype) -> float:
    """Return the number below which products with numbers of a sum's precision are denormal."""
    info = torch.finfo(dtype)
    return float(info.tiny / info.eps)


def exp_(values: Tensor) -> Tensor:
    """Return exp(values), overwritten; 0 where a CPU would have it below :func:`least`."""
    if values.device.type in FREE:
        torch.threshold_(values, math.log(least(values.dtype)), -math.inf)
    return values.exp_()


def normal_(values: Tensor) -> Tensor:
    """Return the values, overwritten; 0 where a CPU has them below :func:`least`."""
    if values.device.type in FREE:
        torch.ops.aten.hardshrink.out(values, least(values.dtype), out=values)
    return values


def scaled(cotangents: Sequence[Tensor]) -> tuple[list[Tensor], float]:
    """Return cotangents over a power of two, and that, which their gradients are multiplied by.

    It is 1 but where all of them are small, as those of a loss times 1e-20.
    """
    if cotangents[0].device.type not in FREE:
        return list(cotangents), 1.0
    peak = 0.0
    for cotangent in cotangents:
        if cotangent.numel():
            low, high = cotangent.aminmax()
            peak = max(peak, -low.item(), high.item())
    scale = 2.0 ** max(math.frexp(peak)[1], -126) if 0 < peak < _SMALL else 1.0
    parts = cotangents if scale == 1 else [c / scale for c in cotangents]
    return [torch.hardshrink(c, least(c.dtype)) for c in parts], scale


def multiplied_(gradients: Sequence[Tensor | None], scale: float) -> Sequence[Tensor | None]:
    """Return gradients times a number, overwritten."""
    if scale == 1:
        return gradients
    return [None if gradient is None else gradient.mul_(scale) for gradient in gradients]


def raised(values: Tensor, dim: int, *, gaps: bool = True) -> tuple[Tensor, Tensor]:
    """Return exp(values - peak) and the peak along a dimension.

    Args:
        values: (N, M).
        dim: of the sum to come.
        gaps: whether there may be no value at all, whose peak is 0.
    """
    peak = values.amax(dim, keepdim=True)
    if gaps:
        peak = peak.masked_fill_(peak == -math.inf, 0.0)
    return exp_(values - peak), peak
