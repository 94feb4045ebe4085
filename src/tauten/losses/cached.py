"""A property computed once for each object, which ``torch.compile`` follows.

``functools.cached_property`` takes a lock up to Python 3.11, and a lock ends a compiled graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Result = TypeVar("Result")


class Cached(Generic[Result]):
    """The result of a method without arguments, kept in the object's ``__dict__``."""

    def __init__(self, compute: Callable[[Any], Result]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, owner: None, kind: type) -> Cached[Result]: ...
    @overload
    def __get__(self, owner: object, kind: type) -> Result: ...
    def __get__(self, owner: Any, kind: type) -> Any:
        if owner is None:
            return self
        result = self._compute(owner)
        owner.__dict__[self._name] = result
        return result
