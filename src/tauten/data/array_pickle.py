"""Arrays from pickle files that nobody vouches for.

A pickle is a program. Here it may only describe one array of numbers: each of the few globals that
such a file names is replaced by a stand-in, and any other is refused before anything is called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_KINDS = {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} - {"f1"} | {"b1"}


def read_array(path: str | Path) -> npt.NDArray[Any]:
    """Read the array of numbers in a pickle file, however old the numpy that wrote it.

    Args:
        path: a file of `pickle.dump(array)` or `array.dump`, protocols 0 to 5.

    Returns:
        The array, read-only, with its shape and type.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file names a global that no array of numbers needs (it is given, and not
            called), holds something else than one array of numbers, or is cut.
    """
    with Path(path).open("rb") as file:
        try:
            array = ArrayUnpickler(file).load()
        except RefusedPickleError as error:
            raise ValueError(f"{path}: {error}") from error
        except Exception as error:  # a damaged pickle raises errors of any kind
            raise ValueError(
                f"{path} is no readable pickle ({type(error).__name__}: {error}): "
                "was its download cut?"
            ) from error
    if not isinstance(array, PickledArray) or array.value is None:
        raise ValueError(f"{path} holds {_named(array)}, not one array of numbers")
    return array.value


class RefusedPickleError(Exception):
    """Refusal of a pickle that holds what an array of numbers does not need."""


class _Dtype:
    """`numpy.dtype(code, ...)` for plain numbers."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        name = code.decode("ascii", "replace") if isinstance(code, bytes) else str(code)
        if name.lstrip("<>|=") not in _KINDS:
            raise RefusedPickleError(f"it holds an array of type {name!r}, not of numbers")
        self.value = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order: Any = state[1].decode() if isinstance(state[1], bytes) else state[1]
        if any(part is not None for part in state[2:5]):
            raise RefusedPickleError("it holds an array of records, not of numbers")
        self.value = self.value.newbyteorder("=" if order == "|" else order)


class PickledArray:
    """`numpy.ndarray`, filled by its state or built from a buffer."""

    value: npt.NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.fill(raw, dtype, shape, "F" if fortran else "C")

    def fill(self, raw: Any, dtype: Any, shape: Any, order: str) -> None:
        if not isinstance(dtype, _Dtype) or not isinstance(raw, (bytes, bytearray)):
            raise RefusedPickleError("it holds an array of objects, not of numbers")
        flat = np.frombuffer(raw, dtype.value)
        self.value = flat.reshape(shape, order="F" if order == "F" else "C")
        self.value.flags.writeable = False


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: str, *_: Any) -> PickledArray:
    array = PickledArray()
    array.fill(raw, dtype, shape, order)
    return array


def _encode(text: str, codec: str) -> bytes:
    """Return the bytes of a text, as pickle protocols 0 to 2 write them."""
    if codec != "latin1":
        raise RefusedPickleError(f"it encodes text as {codec!r}, which no array needs")
    return text.encode("latin1")


_CORES = ("numpy.core", "numpy._core")
_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): PickledArray,
    ("_codecs", "encode"): _encode,
    **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _frombuffer for core in _CORES},
}


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that knows stand-ins for the globals of arrays and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise RefusedPickleError(
                f"refused, nothing was run: it names {module}.{name}, which no array of numbers "
                "needs"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedPickleError("refused: it refers to objects outside the file")


def _named(thing: Any) -> str:
    return "an empty array" if isinstance(thing, PickledArray) else f"a {type(thing).__name__}"
