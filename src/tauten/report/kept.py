"""Arrays that a run kept, checked: embeddings of pairs, features of two views, training samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tauten.outcome.files import RIGHT
from tauten.report.files import read_arrays, required
from tauten.report.runs import Array

EMBEDDINGS, FEATURES, SAMPLES = "embeddings.npz", "features.npz", "samples.npz"
_TOGETHER = (
    ("label_counts", "label_names"),
    ("tau_steps", "tau_groups", "tau_low", "tau_high"),
)


def embeddings(folder: Path) -> dict[str, Array]:
    """Return the arrays of a run of pairs.

    Raises:
        ValueError: there are none, or they do not fit together.
    """
    path = required(folder, EMBEDDINGS)
    arrays = read_arrays(path, ("x", "y", "y_of_x", "captions"))
    for side in "xy":
        _check(path, side, arrays[side])
    x, y, of_x = arrays["x"], arrays["y"], arrays["y_of_x"]
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{path} has x of {x.shape[1]} numbers each and y of {y.shape[1]}")
    for name, array in arrays.items():
        if array.ndim == 0:
            raise ValueError(f"{path} has a single value as {name}")
    if len(arrays["captions"]) != len(y):
        raise ValueError(f"{path} has {len(arrays['captions'])} captions for {len(y)} y")
    if of_x.dtype.kind not in "iu" or of_x.ndim not in (1, 2) or not of_x.size:
        raise ValueError(f"{path} has {of_x.dtype} {of_x.shape} as y_of_x, not positions")
    if of_x.max() >= len(y):
        raise ValueError(f"{path} has y_of_x up to {of_x.max()} for {len(y)} y")
    offsets = arrays.get("y_of_x_offsets")
    if offsets is None:
        rows = len(of_x)
    elif offsets.ndim == 1 and offsets.dtype.kind in "iu" and (np.diff(offsets) >= 0).all():
        rows = len(offsets) - 1
    else:
        raise ValueError(f"{path} has y_of_x_offsets that are not ascending positions")
    for name, of in (("y_of_x", x), ("group_of_x", x), ("label_of_x", x), ("group_of_y", y)):
        count = rows if name == "y_of_x" else len(arrays.get(name, of))
        if count not in (len(of), 0):
            raise ValueError(f"{path} has {count} {name} for {len(of)} {name[-1]}")
    return arrays


def features(folder: Path) -> dict[str, Array]:
    """Return the arrays of a run of two views.

    Raises:
        ValueError: there are none, or they do not fit together.
    """
    path = required(folder, FEATURES)
    names = [f"{split}{part}" for split in ("train", "test") for part in ("", "_labels", "_groups")]
    arrays = read_arrays(path, names)
    for split in ("train", "test"):
        _check(path, split, arrays[split])
        rows = [len(arrays[f"{split}{part}"]) for part in ("", "_labels", "_groups")]
        if len(set(rows)) > 1:
            raise ValueError(
                f"{path} has {rows[0]} features, {rows[1]} classes and {rows[2]} groups of the "
                f"{split} split"
            )
    if arrays["train"].shape[1] != arrays["test"].shape[1]:
        widths = [arrays[split].shape[1] for split in ("train", "test")]
        raise ValueError(f"{path} has train of {widths[0]} numbers each and test of {widths[1]}")
    queries = len(arrays["test"])
    for name, right in arrays.items():
        if name.startswith(RIGHT) and (right.dtype != np.bool_ or right.shape != (queries,)):
            raise ValueError(
                f"{path} has {right.dtype} {right.shape} as {name}, not bool ({queries},)"
            )
    return arrays


def sample_values(folder: Path) -> dict[str, Array]:
    """Return counts and temperatures of the training samples, nothing where not recorded.

    Raises:
        ValueError: they do not fit together.
    """
    path = folder / SAMPLES
    if not path.exists():
        return {}
    arrays = read_arrays(path)
    for name, array in arrays.items():
        if array.dtype.kind not in ("U" if name.endswith("names") else "iuf") and array.size:
            raise ValueError(f"{path} has {array.dtype} as {name}")
    for first, *others in _TOGETHER:
        lengths = {name: np.shape(arrays[name])[:1] for name in (first, *others) if name in arrays}
        if len(set(lengths.values())) > 1 or () in lengths.values():
            raise ValueError(f"{path}: {', '.join(lengths)} are not of one length")
    return arrays


def _check(path: Path, name: str, array: Array) -> None:
    if array.dtype.kind != "f" or array.ndim != 2 or not array.size:
        raise ValueError(f"{path} has {array.dtype} {array.shape} as {name}, not float (n, d)")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).any(axis=1).sum())
        raise ValueError(f"{path} has NaN or infinite numbers in {bad} of {len(array)} {name}")
