"""Tensors on disk: which process writes what of them."""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from tauten.files import error_line
from tauten.training import processes
from tauten.training.checkpoints.plain_reader import PlainPlanner, PlainReader

#: bytes below which no share of a tensor is cut; a tensor of less than two is the first process's
SHARE = 2**15


class Shares(DefaultSavePlanner):
    """Every process writes its share of the rows of what all hold; the first what is small.

    Sharded tensors (``DTensor``) are written by their owners, as without it.
    """

    def __init__(self) -> None:
        super().__init__(dedup_save_to_lowest_rank=True)

    def create_local_plan(self) -> SavePlan:
        plan = super().create_local_plan()
        rank, size = processes.rank(), processes.count()
        # the first share of each tensor is the next process's, so that all write as much
        items = [
            part
            for turn, item in enumerate(plan.items)
            for part in share(item, (rank + turn) % size, size)
        ]
        self.plan = dataclasses.replace(plan, items=items)
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Any:
        whole = self.state_dict[write_item.index.fqn]
        if write_item.type is WriteItemType.SHARD and not isinstance(whole, DTensor):
            assert write_item.tensor_data is not None
            chunk = write_item.tensor_data.chunk
            return whole.narrow(0, chunk.offsets[0], chunk.sizes[0])
        return super().resolve_data(write_item)


def share(item: WriteItem, place: int, size: int) -> list[WriteItem]:
    """Return the share at a place of a tensor that all hold; others are left as they are."""
    data = item.tensor_data
    if item.type is not WriteItemType.TENSOR or data is None or not data.size:
        return [item]
    rows, rest = data.size[0], list(data.size[1:])
    weight = math.prod(data.size) * data.properties.dtype.itemsize
    parts = min(size, rows, weight // SHARE)
    if parts < 2:
        return [item]
    if place >= parts:
        return []
    start, end = rows * place // parts, rows * (place + 1) // parts
    offsets = torch.Size([start, *[0] * len(rest)])
    chunk = ChunkStorageMetadata(offsets=offsets, sizes=torch.Size([end - start, *rest]))
    return [
        dataclasses.replace(
            item,
            index=MetadataIndex(item.index.fqn, offsets),
            type=WriteItemType.SHARD,
            tensor_data=dataclasses.replace(data, chunk=chunk),
        )
    ]


def write(folder: Path, state: dict[str, Any]) -> None:
    """Write tensors to a folder, from all processes.

    Raises:
        RuntimeError: a process could not write.
        ValueError: the first process does not see the files of the others.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        try:
            save(state, storage_writer=FileSystemWriter(folder), planner=Shares())
        except CheckpointException as error:
            raise RuntimeError(
                f"the checkpoint in {folder} was not written: {_first(error)}"
            ) from error
    processes.first(lambda: _check_seen(folder))


def _check_seen(folder: Path) -> None:
    files = {info.relative_path for info in (contents(folder).storage_data or {}).values()}
    unseen = sorted(name for name in files if not (folder / name).is_file())
    if unseen:
        raise ValueError(
            f"the first process does not see {', '.join(unseen[:3])} in {folder}, which others "
            "wrote: write sharded checkpoints to a file system that all processes share"
        )


def read(folder: Path, state: dict[str, Any]) -> None:
    """Read into these tensors, from all processes; each reads what it needs.

    Raises:
        RuntimeError: a process could not read.
        ValueError: a file is damaged or holds more than plain values.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        try:
            load(state, storage_reader=PlainReader(folder), planner=PlainPlanner())
        except CheckpointException as error:
            refused = [e for e in error.failures.values() if isinstance(e[0], ValueError)]
            if refused:
                raise ValueError(str(refused[0][0])) from error
            raise RuntimeError(
                f"the checkpoint in {folder} was not read: {_first(error)}"
            ) from error


def _first(error: CheckpointException) -> str:
    """Return the error of the first process that failed, as text."""
    return next((error_line(failed[0]) for failed in error.failures.values()), error_line(error))


def contents(folder: Path) -> Metadata:
    """Return names, sizes and places of what was written.

    Raises:
        ValueError: the file that says so is damaged, or holds more than that.
    """
    return PlainReader(folder).read_metadata()
