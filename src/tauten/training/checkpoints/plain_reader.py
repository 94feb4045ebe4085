"""A reader of ``torch.distributed.checkpoint`` that runs nothing of what a file says.

Its index is a pickle, which can name any function to call. Here only the few classes of an index
are known by name; whatever else is named is refused.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import pickle
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from tauten.files import error_line

_CLASSES = {
    metadata.__name__: (
        *("Metadata", "MetadataIndex", "StorageMeta", "TensorProperties", "_MEM_FORMAT_ENCODING"),
        *("TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata"),
    ),
    filesystem.__name__: ("_StorageInfo", "_StoragePrefix"),
}
_KNOWN: dict[tuple[str, str], Any] = {
    (module.__name__, name): getattr(module, name)
    for module in (metadata, filesystem)
    for name in _CLASSES[module.__name__]
    if hasattr(module, name)
} | {
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
    ("collections", "OrderedDict"): collections.OrderedDict,
}
#: a path is kept as a name, on any system
_PATHS = {
    "PosixPath": PurePosixPath,
    "PurePosixPath": PurePosixPath,
    "WindowsPath": PureWindowsPath,
    "PureWindowsPath": PureWindowsPath,
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows the classes of an index, types of numbers and paths."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module in ("pathlib", "pathlib._local") and name in _PATHS:
            return _PATHS[name]
        known = getattr(torch, name, None) if module == "torch" and "." not in name else None
        if isinstance(known, torch.dtype):
            return known
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no index needs")


class PlainReader(FileSystemReader):
    """A reader whose index is read by an allow-list, and whose files lie in the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the index.

        Raises:
            OSError: there is none.
            ValueError: it is damaged, or names what no index needs.
        """
        path = self._folder / ".metadata"
        content = path.read_bytes()
        try:
            metadata = _Unpickler(io.BytesIO(content)).load()
            self._check(metadata)
        except Exception as error:
            raise ValueError(
                f"{path} is damaged or not from a checkpoint of tauten: {error_line(error)}; load "
                "another checkpoint"
            ) from error
        if getattr(metadata, "storage_meta", None) is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        index: Metadata = metadata
        return index

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read what a plan asks for, one file after the other.

        Raises:
            OSError: a file that cannot be opened or read.
            ValueError: a damaged file, by its name, or one of more than plain values.
        """
        files: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            place = self.storage_data[item.storage_index].relative_path
            files.setdefault(place, []).append(item)
        for name, items in files.items():
            try:
                super().read_data(dataclasses.replace(plan, items=items), planner).wait()
            except (OSError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise ValueError(
                    f"{self._folder / name} is damaged: {error_line(error)}; load another "
                    "checkpoint"
                ) from error
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _check(self, metadata: Any) -> None:
        if not isinstance(metadata, Metadata):
            raise TypeError("it holds no index")
        for place in (metadata.storage_data or {}).values():
            name = place.relative_path
            if Path(name).name != name or getattr(place, "transform_descriptors", None):
                raise ValueError(f"it names a file {name!r} that is not one of the folder")


class PlainPlanner(DefaultLoadPlanner):
    """A planner that takes of what is no tensor only plain values."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Load plain values, and nothing else.

        Raises:
            ValueError: they hold more than plain values.
        """
        try:
            plain = torch.load(value, weights_only=True)
        except Exception as error:
            raise ValueError(
                f"{read_item.dest_index.fqn} of the checkpoint is damaged or no plain value: "
                f"{error_line(error)}"
            ) from error
        ours = io.BytesIO()
        torch.save(plain, ours)
        ours.seek(0)
        super().load_bytes(read_item, ours)
