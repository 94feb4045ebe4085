"""Common parts of modules with state: full precision, and refusal of a foreign state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tauten.checks import few

Conversion = Callable[[Tensor], Tensor]
Self = TypeVar("Self", bound="StateModule")


def full_precision(fn: Conversion) -> Conversion:
    """Return the conversion or move, without any to less than float32.

    In bfloat16 a moving average or a learned temperature no longer moves by small steps.
    """

    def converted(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.dtype.itemsize < 4:
            return fn(tensor)
        asked = fn(torch.empty(0, dtype=tensor.dtype, device=tensor.device))
        if asked.is_floating_point() and asked.dtype.itemsize < 4:
            return tensor.to(asked.device)
        return fn(tensor)

    return converted


class StateModule(nn.Module):
    """A module whose numbers, and those of its parts, stay float32 or float64.

    ``.half()``, ``.bfloat16()`` and ``.to(dtype)`` of it, or of a module that it is part of, leave
    them so; ``.double()`` makes them float64. A state that a part refuses is not loaded in part.
    """

    def refuse(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Raise ValueError for a state that was saved for other data."""

    def growing(self) -> Sequence[str]:
        """Return the names of the tensors that take whatever length was saved."""
        return ()

    def _apply(self: Self, fn: Conversion, recurse: bool = True) -> Self:
        nn.Module._apply(self, full_precision(fn), recurse)
        return self

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a state whole, or not at all; as that of ``nn.Module``.

        Raises:
            ValueError: a state of other data.
            RuntimeError: a tensor of another shape; with ``strict`` names that differ.
        """
        if strict and isinstance(state_dict, Mapping):
            _check_names(self, state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        check_state(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def parts(module: nn.Module) -> list[nn.Module]:
    """Return a module and all that it is made of, each once, in the order of ``modules()``."""
    listed: dict[nn.Module, None] = {}
    coming = [module]
    while coming:
        part = coming.pop()
        if part not in listed:
            listed[part] = None
            coming += [p for p in reversed(part._modules.values()) if p is not None]
    return list(listed)


def under_vmap(tensor: Tensor) -> bool:
    """Return whether a tensor stands for a whole batch of its kind, under ``torch.func.vmap``."""
    if torch.compiler.is_compiling():
        return False
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def refuse_vmap(name: str, tensor: Tensor) -> None:
    """Refuse embeddings that stand for a whole batch of their kind.

    Raises:
        ValueError: with the remedy.
    """
    if under_vmap(tensor):
        raise ValueError(
            f"{name} stands for several batches, under torch.func.vmap, and what takes it reads "
            "its numbers to check them: go over the batches in a loop, or take a value of each "
            "anchor from reduction='none'"
        )


def check_state(module: nn.Module, state_dict: Mapping[str, Any], prefix: str) -> None:
    """Refuse a state for any part of a module before a part of it is loaded.

    Raises:
        ValueError: a state of other data.
        RuntimeError: a tensor of another shape.
    """
    grows = set()
    for name, part in module.named_modules():
        place = f"{prefix}{name}." if name else prefix
        if isinstance(part, StateModule):
            part.refuse(state_dict, place)
            grows |= {place + tensor for tensor in part.growing()}
    for key, tensor in module.state_dict(prefix=prefix, keep_vars=True).items():
        saved = state_dict.get(key)
        if not isinstance(saved, Tensor) or not isinstance(tensor, Tensor):
            continue
        rows = 1 if key in grows else 0
        if saved.shape[rows:] != tensor.shape[rows:]:
            raise RuntimeError(
                f"size mismatch for {key}: {tuple(saved.shape)} in the saved state, "
                f"{tuple(tensor.shape)} here; nothing of {type(module).__name__} was loaded"
            )


def _check_names(module: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Refuse a state that lacks tensors of a module, or has others."""
    tensors = module.state_dict(keep_vars=True)
    lacking = [key for key in tensors if key not in state_dict]
    further = [key for key in state_dict if key not in tensors]
    faults = [
        f"{what} {few(keys)}"
        for what, keys in (("lacks", lacking), ("has in addition", further))
        if keys
    ]
    if faults:
        name = type(module).__name__
        raise RuntimeError(
            f"the saved state {' and '.join(faults)}; nothing of {name} was loaded: it is of "
            "another loss or control, or give strict=False to load what fits"
        )
