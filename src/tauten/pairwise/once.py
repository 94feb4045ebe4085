"""Backward passes: in closed form, by a formula where more is asked, or refused there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_TILES = (
    "tiles, and reductions over several processes, have first derivatives only: no "
    "create_graph=True, no is_grads_batched=True and no torch.func; use tile='dense', and "
    "ranks='local' where several processes run"
)

Backward = Callable[..., Any]


#: whether a cotangent stands for many, as with ``is_grads_batched=True``
_batched: Callable[[Tensor], bool] = getattr(
    torch._C._functorch, "is_legacy_batchedtensor", lambda cotangent: False
)


def more_is_asked(cotangents: Sequence[Tensor | None]) -> bool:
    """Return whether gradients are to be differentiated in their turn, or are many at once."""
    return torch.is_grad_enabled() or any([c is not None and _batched(c) for c in cotangents])


def in_closed_form(back: Backward, formula: Backward) -> Backward:
    """Return a backward pass without autocast, by a formula where more is asked.

    Args:
        back: of the context and the cotangents; not differentiable itself.
        formula: of the same, in torch's own operations.
    """

    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        way = formula if more_is_asked(cotangents) else back
        kind = cotangents[0].device.type
        if torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                return way(ctx, cotangents)
        return way(ctx, cotangents)

    return staticmethod(backward)


def gradients(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    needs: Sequence[bool],
    cotangents: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Return the gradients of inputs, with a graph of their own.

    Args:
        function: of the inputs, told apart where they are one tensor.
        inputs: of the function.
        needs: of each input, whether it needs a gradient.
        cotangents: of each result; None for 0.
    """
    with torch.enable_grad():
        apart = [tensor.view_as(tensor) for tensor in inputs]
        given = [
            (result, cotangent)
            for result, cotangent in zip(function(*apart), cotangents, strict=True)
            if cotangent is not None and result.requires_grad
        ]
        grads = iter(
            torch.autograd.grad(
                [result for result, _ in given],
                [tensor for tensor, need in zip(apart, needs, strict=True) if need],
                [cotangent for _, cotangent in given],
                create_graph=True,
                allow_unused=True,
            )
        )
    return [next(grads) if need else None for need in needs]


def first_only(backward: Backward) -> Backward:
    """Refuse ``create_graph=True`` and ``is_grads_batched=True`` in a backward pass.

    torch's own ``once_differentiable`` refuses only a cotangent that requires a gradient; that of a
    mean is a constant, and the second derivative would lack a part without a word.
    """
    once = once_differentiable(backward)

    @functools.wraps(backward)
    def checked(ctx: Any, *cotangents: Tensor) -> Any:
        if more_is_asked(cotangents):
            raise RuntimeError(_TILES)
        return once(ctx, *cotangents)

    return checked


#: () whether a transform of ``torch.func`` is at work
transformed: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", bool)


def jvp(ctx: Any, *tangents: Any) -> Any:
    """Refuse the forward mode of ``torch.autograd.forward_ad``."""
    raise RuntimeError(
        "torch.autograd.forward_ad has no derivative here: use torch.func.jvp, with tile='dense' "
        "and, where several processes run, ranks='local'"
    )


def apply_once(function: type[torch.autograd.Function], *args: Any) -> Any:
    """Apply a function that has no form for the transforms of ``torch.func``."""
    if transformed():
        raise RuntimeError(_TILES)
    return function.apply(*args)


def hold(values: list[Tensor], what: str) -> list[Tensor]:
    """Return the values, whose gradient is an estimator's and has no derivative of its own.

    Args:
        values: each of any shape.
        what: the name of the loss, for the message.
    """
    if not torch.is_grad_enabled() or not any(part.requires_grad for part in values):
        return values
    if transformed():
        raise RuntimeError(_held(what))
    return list(_Held.apply(what, *values))  # type: ignore[no-untyped-call]


def _held(what: str) -> str:
    return (
        f"the gradient of {what} is an estimator's, which holds averages and learned temperatures "
        "fixed, so it has no second derivative: no create_graph=True and no torch.func"
    )


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, what: str, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.what = what
        ctx.set_materialize_grads(False)
        return tuple(part.view_as(part) for part in values)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(_held(ctx.what))
        return None, *cotangents
