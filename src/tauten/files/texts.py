"""Texts in files of arrays, one after another: a long one does not make the others longer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = dict[str, npt.NDArray[Any]]

_TEXT, _PLACES = "_utf8", "_offsets"


def packed(name: str, texts: Sequence[str]) -> Arrays:
    """Return the two arrays that stand for N texts.

    Args:
        name: name of both, as ``{name}_utf8`` and ``{name}_offsets``.
        texts: N of them.

    Returns:
        (bytes,) uint8 of all texts, and (N + 1,) int64, where each begins and the last ends.
    """
    import numpy as np

    rows = [text.encode("utf-8", "surrogatepass") for text in texts]
    places = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return {
        f"{name}{_TEXT}": np.frombuffer(b"".join(rows), np.uint8),
        f"{name}{_PLACES}": places,
    }


def unpacked(arrays: Mapping[str, Any]) -> Arrays:
    """Return arrays with texts in the place of the pairs that stand for them, (N,) of objects.

    Raises:
        ValueError: a pair does not fit together.
    """
    import numpy as np

    result = dict(arrays)
    for name in [name.removesuffix(_TEXT) for name in arrays if name.endswith(_TEXT)]:
        content, places = result.pop(f"{name}{_TEXT}"), result.pop(f"{name}{_PLACES}", None)
        if (
            places is None
            or content.dtype != np.uint8
            or places.dtype.kind != "i"
            or places.ndim != 1
            or not len(places)
            or places[0] != 0
            or places[-1] != content.size
            or (np.diff(places) < 0).any()
        ):
            raise ValueError(f"{name}{_TEXT} and {name}{_PLACES} do not fit together")
        whole, ends = content.tobytes(), places.tolist()
        texts = np.empty(len(ends) - 1, dtype=object)
        for row in range(len(texts)):
            texts[row] = whole[ends[row] : ends[row + 1]].decode("utf-8", "replace")
        result[name] = texts
    return result
