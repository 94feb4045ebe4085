"""One side of the pair matrix, read in blocks.

Embeddings may come in a low precision and unnormalised. A block is made what the reductions need
(float32 or float64, of length 1 for cosines) when it is read, so that no second copy of the side
is ever held.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.pairwise.once import gradients, jvp, more_is_asked, transformed
from tauten.pairwise.reduction import compute_dtype as compute_dtype
from tauten.reads import FREE

#: rows below this length are divided by it, as in ``torch.nn.functional.normalize``
EPSILON = 1e-12

#: largest entries of rows whose squares can be summed in float32, and are not below ``EPSILON``
_RANGE = (1e-10, 1e15)

#: rows of a block where a whole side is walked, on the CPU and on a GPU, which wants few and large
BLOCK, BLOCK_ON_GPU = 256, 32_768


def as_reduced(x: Tensor, y: Tensor, *, cosine: bool) -> tuple[Tensor, Tensor]:
    """Return both sides whole, in the precision of the reductions and of length 1 for cosines."""
    dtype = compute_dtype(x, y)
    x, y = x.to(dtype), y.to(dtype)
    if cosine:
        x, y = F.normalize(x, dim=1, eps=EPSILON), F.normalize(y, dim=1, eps=EPSILON)
    return x, y


def within_range(vectors: Tensor) -> Tensor:
    """Return rows whose lengths can be computed, with the same directions.

    Where a row is so long that its squares overflow, or so short that these vanish, and where that
    is not known without waiting, each row is multiplied by a power of two that brings its largest
    entry near 1. A row of zeros has no direction: its cosines are 0, and it gets no gradient. Rows
    that are not finite stay so.
    """
    if not vectors.numel():
        return vectors
    values = vectors.detach()
    largest = values.abs().amax(1, keepdim=True)  # a tenth of the time of vector_norm
    # a compiled graph reads no number, and to read one of a GPU waits for it
    if not torch.compiler.is_compiling() and vectors.device.type in FREE:
        least, most_of_all = (float(end) for end in largest.aminmax())
        if least > _RANGE[0] and most_of_all < _RANGE[1]:
            return vectors
    most = -math.frexp(torch.finfo(vectors.dtype).tiny)[1]
    power = torch.frexp(largest).exponent.neg().clamp(-most, most)
    scale = torch.ldexp(torch.ones_like(largest), power)
    return vectors * scale.masked_fill_(largest == 0, 0.0)


class Side:
    """The vectors of one side as the reductions see them.

    Args:
        vectors: (N, d) of any floating type.
        dtype: precision of the reductions.
        cosine: whether rows are scaled to length 1.
    """

    def __init__(self, vectors: Tensor, dtype: torch.dtype, *, cosine: bool) -> None:
        self.vectors, self.dtype = vectors, dtype
        self.inverse: Tensor | None = None
        if cosine:
            lengths = vectors.new_empty(len(vectors), 1, dtype=dtype)
            for block in self.blocks():
                rows = vectors[block].detach()
                torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=dtype, out=lengths[block])
            self.inverse = lengths.clamp_(min=EPSILON).reciprocal_()

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, which: slice | Tensor, room: Tensor | None = None) -> Tensor:
        """Return (n, d) the rows of a slice or of an index vector, in ``room`` if they need any."""
        block = self.vectors[which]
        if block.dtype != self.dtype:
            block = block.to(self.dtype) if room is None else room.copy_(block)
        return block if self.inverse is None else torch.mul(block, self.inverse[which], out=room)

    def blocks(self) -> Iterator[slice]:
        """Yield slices that cover the side; an empty one where it has no rows."""
        size = BLOCK if self.vectors.device.type in FREE else BLOCK_ON_GPU
        for start in range(0, max(len(self), 1), size):
            yield slice(start, min(start + size, len(self)))

    def zeros(self) -> Tensor:
        """Return room for the gradient with respect to the rows."""
        return torch.zeros(self.vectors.shape, dtype=self.dtype, device=self.vectors.device)

    def gradient(self, grad: Tensor) -> Tensor:
        """Return the gradient of the vectors from that of the rows, which is overwritten.

        The gradient g of a row u = v/‖v‖ becomes (g − u(u·g))/‖v‖.
        """
        if self.inverse is not None:
            for block in self.blocks():
                unit, part = self.rows(block), grad[block]
                along = (unit * part).sum(1, keepdim=True)
                part.addcmul_(unit, along, value=-1).mul_(self.inverse[block])
        return grad.to(self.vectors.dtype)


def pair_similarity(x: Tensor, y: Tensor, column: Tensor, *, cosine: bool) -> Tensor:
    """Return the similarity of each row of x to one row of y, s_{i, column[i]}.

    Args:
        x: (N, d).
        y: (M, d).
        column: (N,) long.
        cosine: whether rows are scaled to length 1.

    Returns:
        (N,), differentiable any number of times.
    """
    if transformed():
        return _plain_similarity(x, y, column, cosine=cosine)
    return _PairSimilarity.apply(x, y, column, cosine)  # type: ignore[no-untyped-call, no-any-return]


def _plain_similarity(x: Tensor, y: Tensor, column: Tensor, *, cosine: bool) -> Tensor:
    """Return the same in torch's own operations, which keep a copy of both sides."""
    x, y = as_reduced(x, y, cosine=cosine)
    return (x * y[column]).sum(1)


class _PairSimilarity(torch.autograd.Function):
    jvp = staticmethod(jvp)

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, column: Tensor, cosine: bool) -> Tensor:
        dtype = compute_dtype(x, y)
        left, right = Side(x, dtype, cosine=cosine), Side(y, dtype, cosine=cosine)
        ctx.save_for_backward(x, y, column)
        ctx.cosine = cosine
        parts = [(left.rows(b) * right.rows(column[b])).sum(1) for b in left.blocks()]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        x, y, column = ctx.saved_tensors
        if more_is_asked([cotangent]):

            def plain(x: Tensor, y: Tensor) -> list[Tensor]:
                return [_plain_similarity(x, y, column, cosine=ctx.cosine)]

            return *gradients(plain, (x, y), ctx.needs_input_grad[:2], [cotangent]), None, None
        left, right = (Side(v, cotangent.dtype, cosine=ctx.cosine) for v in (x, y))
        grad_x = left.zeros() if ctx.needs_input_grad[0] else None
        grad_y = right.zeros() if ctx.needs_input_grad[1] else None
        for block in left.blocks():
            factor = cotangent[block].unsqueeze(1)
            if grad_x is not None:
                torch.mul(right.rows(column[block]), factor, out=grad_x[block])
            if grad_y is not None:
                grad_y.index_add_(0, column[block], left.rows(block) * factor)
        return (
            None if grad_x is None else left.gradient(grad_x),
            None if grad_y is None else right.gradient(grad_y),
            None,
            None,
        )
