"""Numbers that are kept out of the denormal range, in which a CPU computes ten times slower.

A weight below exp(-71) of its row's largest, or a gradient below 1e-31 (float32), is taken for 0:
what is lost is less than the rounding of anything that it would be added to, or nothing at all.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

#: for sums below exp(±this) exp stays finite, and a gradient of 1e-8 over it has its digits in
#: float32, whose smallest normal number is 1e-38
SAFE_EXPONENT = 70.0


@cache
def least(dtype: torch.dtype) -> float:
    """Return the number below which products with numbers of a sum's precision are denormal."""
    info = torch.finfo(dtype)
    return float(info.tiny / info.eps)


def exp_(values: Tensor) -> Tensor:
    """Return exp(values), overwritten; 0 where it is below :func:`least`."""
    return torch.threshold_(values, math.log(least(values.dtype)), -math.inf).exp_()


def normal_(values: Tensor) -> Tensor:
    """Return the values, overwritten; 0 where they are below :func:`least`."""
    result: Tensor = torch.ops.aten.hardshrink.out(values, least(values.dtype), out=values)
    return result


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
