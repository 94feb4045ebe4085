# mypy: ignore-errors
"""Terms inside Triton kernels: φ and its slopes on a tile, and how a tile is reduced.

Numbers a and b come in the order of the term's; a term is known by its name in
:data:`tauten.pairwise.triton_blocks.TERMS`. NaN stays NaN, so that the loss can be refused.
"""

import triton
import triton.language as tl


@triton.jit
def value(s, a, b, TERM: tl.constexpr):
    """Return φ."""
    if TERM == "scaled":
        phi = s * a
    elif TERM == "softplus":
        phi = _softplus(s * a + b)
    elif TERM == "hinge":
        phi = tl.where(s + a < 0, 0.0, s + a)
    elif TERM == "active":
        phi = tl.where(s + a > 0, 1.0, 0.0)
    elif TERM == "tilted":
        phi = s * tl.exp(s * a - b)
    else:
        tl.static_assert(TERM == "one")
        phi = s * 0.0 + 1.0
    return phi


@triton.jit
def slope(s, a, b, TERM: tl.constexpr):
    """Return ∂φ/∂s, of the shape of the tile or of a."""
    if TERM == "scaled":
        derivative = a
    elif TERM == "softplus":
        derivative = tl.sigmoid(s * a + b) * a
    elif TERM == "hinge":
        derivative = tl.where(s + a > 0, 1.0, 0.0)
    elif TERM == "tilted":
        derivative = (1.0 + s * a) * tl.exp(s * a - b)
    else:
        derivative = s * 0.0
    return derivative


@triton.jit
def slope_of_a(s, a, b, TERM: tl.constexpr):
    """Return ∂φ/∂a."""
    if TERM == "scaled":
        derivative = s
    elif TERM == "softplus":
        derivative = tl.sigmoid(s * a + b) * s
    elif TERM == "hinge":
        derivative = tl.where(s + a > 0, 1.0, 0.0)
    elif TERM == "tilted":
        derivative = s * s * tl.exp(s * a - b)
    else:
        derivative = s * 0.0
    return derivative


@triton.jit
def slope_of_b(s, a, b, TERM: tl.constexpr):
    """Return ∂φ/∂b."""
    if TERM == "softplus":
        derivative = tl.sigmoid(s * a + b)
    else:
        tl.static_assert(TERM == "tilted")
        derivative = -s * tl.exp(s * a - b)
    return derivative


@triton.jit
def _softplus(z):
    """Return log(1 + exp(z)), as precise for z far below 0 as elsewhere."""
    e = tl.exp(-tl.abs(z))
    u = 1.0 + e
    log1p = tl.where(u == 1.0, e, tl.log(u) * (e / (u - 1.0)))
    return tl.where(z > 0, z, 0.0) + log1p


@triton.jit
def weighted(phi, factor, shift, HOW: tl.constexpr):
    """Return ∂result/∂φ times the factor."""
    if HOW == "sum":
        weight = factor
    elif HOW == "exponentials":
        weight = factor * tl.exp(phi)
    else:
        weight = factor * tl.exp(phi - shift)
    return weight


@triton.jit
def reduced(phi, out, HOW: tl.constexpr, AXIS: tl.constexpr):
    """Sum the tile along an axis; "exponentials" leaves the logarithm to who adds tiles up."""
    if HOW == "logsumexp":
        phi = tl.where(out, -float("inf"), phi)
        peak = tl.max(phi, AXIS)
        peak = tl.where(peak == -float("inf"), 0.0, peak)
        result = peak + tl.log(tl.sum(tl.exp(phi - tl.expand_dims(peak, AXIS)), AXIS))
    else:
        if HOW == "exponentials":
            phi = tl.exp(phi)
        result = tl.sum(tl.where(out, 0.0, phi), AXIS)
    return result
