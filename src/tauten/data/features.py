"""Precomputed features of samples: .npy, .safetensors, or WebDataset tars with .npy members."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from tauten.data.listing import shards_in
from tauten.data.shards import is_shard, read_shard
from tauten.files import expanded
from tauten.structure.cells import some
from tauten.structure.tables import parse_json

_BLOCK = 1 << 24
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """One array of features, a row for each sample.

    Attributes:
        ids: (N,) names of the samples, all different.
        rows: (N, ...) float16, float32 or float64, finite; mapped from its file where it can be.
        fingerprint: hash of ids, shape, type and all values.
    """

    ids: tuple[str, ...]
    rows: npt.NDArray[Any]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Width of a row: the last axis."""
        return int(self.rows.shape[-1])

    def select(self, ids: Sequence[str]) -> Tensor:
        """Return the features of these samples, in this order, read into memory.

        Args:
            ids: n names; one may be there several times.

        Returns:
            (n, ...) of the file's type.

        Raises:
            ValueError: samples that have no features.
        """
        place = {name: row for row, name in enumerate(self.ids)}
        unknown = [name for name in ids if name not in place]
        if unknown:
            raise ValueError(
                f"{len(unknown)} of {len(ids)} samples have no features: {unknown[:3]}"
            )
        return torch.from_numpy(np.ascontiguousarray(self.rows[[place[name] for name in ids]]))


def load_features(
    path: str | Path,
    *,
    ids: Sequence[str] | str | Path | None = None,
    key: str | None = None,
    dim: int | None = None,
    progress: bool = True,
) -> FeatureTable:
    """Open a file of features and read it through once, to be sure of it.

    * .npy: (N, d) or (N, T, d), mapped into memory, not loaded.
    * .safetensors: one such tensor, mapped.
    * .tar, .tar.gz, or a folder of shards: members KEY.npy, (d,) or (T, d) each, loaded. Their ids
      are the KEYs.

    Args:
        path: the file or folder.
        ids: names of the rows, or a text file with one a line. Default: NAME.ids.txt beside
            NAME.npy or NAME.safetensors, else "0", "1", ...; of tars the KEYs.
        key: name of the tensor in a .safetensors with several; extension of the members of a tar
            (default "npy").
        dim: expected width of a row.
        progress: show a bar if it takes long.

    Returns:
        The table.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: another kind of file, numbers that are no floats or not finite (with the id of
            the first such row), rows of different shapes, another width than `dim`, ids that are
            not one for each row or not different.
    """
    file = expanded(path)
    if not file.exists():
        raise FileNotFoundError(f"no such file or folder: {file}")
    named: Sequence[str] | None = None
    if file.is_dir() or is_shard(file):
        if ids is not None:
            raise ValueError(f"{file}: features in tars have the ids of their members")
        named, rows = _from_tars(file, key or "npy")
    elif file.suffix == ".npy":
        rows = _from_npy(file)
    elif file.suffix == ".safetensors":
        rows = _from_safetensors(file, key)
    else:
        raise ValueError(f"{file}: features must be .npy, .safetensors or .tar")
    if rows.dtype not in (np.float16, np.float32, np.float64) or rows.ndim < 2:
        raise ValueError(f"{file}: expected floats (N, d), found {rows.dtype} of {rows.shape}")
    if dim is not None and rows.shape[-1] != dim:
        raise ValueError(f"{file}: rows are {rows.shape[-1]} wide, expected {dim}")
    names = tuple(named if named is not None else _ids(file, ids, len(rows)))
    if len(names) != len(rows) or len(set(names)) != len(names):
        raise ValueError(
            f"{file}: {len(rows)} rows need as many different ids, found {len(names)}, "
            f"{len(set(names))} different"
        )
    return FeatureTable(names, rows, _read_through(file, rows, names, progress))


def _ids(file: Path, ids: Sequence[str] | str | Path | None, count: int) -> Sequence[str]:
    beside = file.with_suffix(".ids.txt")
    if ids is None and not beside.is_file():
        return [str(row) for row in range(count)]
    source = beside if ids is None else ids
    if isinstance(source, str | Path):
        return Path(source).read_text(encoding="utf-8").splitlines()
    return source


def _from_npy(file: Path) -> npt.NDArray[Any]:
    try:
        rows: npt.NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{file} is no readable .npy file: {error}") from error
    return rows


def _from_safetensors(file: Path, key: str | None) -> npt.NDArray[Any]:
    """Map one tensor: 8 bytes with the length of a json header, the header, the numbers."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            if length > size - 8:
                raise ValueError(f"a header of {length} bytes in {size}")
            header = parse_json(stream.read(length), "header")
        except ValueError as error:
            raise ValueError(f"{file} is no readable .safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise ValueError(f"{file} is no readable .safetensors file: its header is no object")
    names = [name for name in header if name != "__metadata__"]
    if key is None and len(names) != 1:
        raise ValueError(f"{file} holds {len(names)} tensors: give key, one of {some(names, 20)}")
    name = names[0] if key is None else key
    if name not in names:
        raise ValueError(f"{file} has no tensor {name!r}, only {some(names, 20)}")
    try:
        kind, shape = header[name]["dtype"], tuple(map(int, header[name]["shape"]))
        begin, end = map(int, header[name]["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is no readable .safetensors file: {name} needs dtype, shape and two "
            f"data_offsets ({type(error).__name__}: {error})"
        ) from error
    if kind not in _DTYPES:
        raise ValueError(f"{file}: {name} is {kind}; expected {', '.join(_DTYPES)}")
    needed = math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize
    if min(begin, *shape, 0) < 0 or end - begin != needed:
        raise ValueError(
            f"{file} is damaged: {name} of shape {shape} needs {needed} bytes, its offsets are "
            f"{begin} and {end}"
        )
    if 8 + length + end > size:
        raise ValueError(
            f"{file} is cut: {name} ends at byte {8 + length + end}, the file at {size}"
        )
    return np.memmap(file, _DTYPES[kind], "r", 8 + length + begin, shape)


def _from_tars(path: Path, extension: str) -> tuple[list[str], npt.NDArray[Any]]:
    shards = shards_in(path) if path.is_dir() else [path]
    names: list[str] = []
    rows: list[npt.NDArray[Any]] = []
    for shard in shards:
        for name, members in read_shard(shard)[0].items():
            if extension not in members:
                shown = some(sorted(members))
                raise ValueError(f"{shard}: sample {name} has no .{extension}, only {shown}")
            try:
                row = np.load(io.BytesIO(members[extension]), allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise ValueError(f"{shard}: {name}.{extension} is not readable: {error}") from error
            if rows and (row.shape, row.dtype) != (rows[0].shape, rows[0].dtype):
                raise ValueError(
                    f"{shard}: {name} is {row.dtype} of {row.shape}, {names[0]} is "
                    f"{rows[0].dtype} of {rows[0].shape}"
                )
            names.append(name)
            rows.append(row)
    if not rows:
        raise ValueError(f"no features in {path}")
    return names, np.stack(rows)


def _read_through(file: Path, rows: npt.NDArray[Any], ids: Sequence[str], progress: bool) -> str:
    """Hash all values, block by block, and refuse those that are not finite."""
    digest = hashlib.sha256(json.dumps([rows.shape, rows.dtype.str, list(ids)]).encode())
    width = max(rows[:1].nbytes, 1)
    step = max(_BLOCK // width, 1)
    bar = tqdm(range(0, len(rows), step), "reading features", delay=2.0, disable=not progress)
    for start in bar:
        block = np.ascontiguousarray(rows[start : start + step])
        finite = np.isfinite(block).reshape(len(block), -1).all(1)
        if not finite.all():
            first = start + int(finite.argmin())
            raise ValueError(f"{file}: features of {ids[first]} (row {first}) are not finite")
        digest.update(block.data)
    return digest.hexdigest()[:32]
