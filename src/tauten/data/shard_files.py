"""Single samples out of shards, undecoded; the latest files and row groups stay open."""

import os
import weakref
from collections import OrderedDict
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tauten.data.catalogue import Shard
from tauten.data.sources import Request, Sample, decode_member, dotted, stored_picture, with_members
from tauten.data.tar_index import read_members
from tauten.structure.cells import some

_OPEN = 64
_ALIASES = {"image": "file_name", "caption": "txt"}


class ShardFiles:
    """A reader of samples at their places in shards.

    Files are opened when they are first needed, and again in every process, so that an object of
    this class may be copied to worker processes.

    Args:
        request: names of the image and caption columns, kind of the first.
        required: columns of parquet files that must be there.
        others: more columns of parquet files to read; None for all.
        held: most rows of parquet files in memory.
    """

    def __init__(
        self,
        request: Request,
        required: tuple[str, ...],
        others: tuple[str, ...] | None,
        held: int,
    ) -> None:
        self.request = request
        self.required = required
        self.others = others
        self.held = held
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._open: OrderedDict[Path, Any] = OrderedDict()
        weakref.finalize(self, _close, self._open)
        self._groups: OrderedDict[tuple[Path, int], Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("request", "required", "others", "held")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def sample(self, shard: Shard, position: int) -> Sample:
        """Return the sample at this position of the shard; its `problem` says if it cannot be read.

        Raises:
            ValueError: the shard has changed since it was indexed; a parquet file lacks a column.
        """
        if self._process != os.getpid():
            self._forget()
        return (self._row if shard.kind == "parquet" else self._members)(shard, position)

    def _members(self, shard: Shard, position: int) -> Sample:
        file: BinaryIO = self._file(shard)
        start, stop = shard.bounds[position : position + 2].tolist()
        file.seek(start)
        where = f"{shard.path}, sample {position}"
        try:
            key, members = read_members(file.read(stop - start))
        except ValueError as error:
            return Sample(where, None, problem=str(error))
        sample = Sample(f"{where} ({key})", None)
        media = self.request.media_of(members)
        if len(media) == 1:
            self._take_media(sample, media[0], members.pop(media[0]))
        elif media:
            sample.problem = (
                f"several images: {dotted(tuple(media))} (choose one with image=, --data.image)"
            )
        else:
            sample.problem, _ = self.request.absent(key, list(members))
        return with_members(sample, key, members)

    def _take_media(self, sample: Sample, extension: str, content: bytes) -> None:
        if self.request.media == "image":
            sample.media = {"bytes": content, "path": None}
            return
        try:
            sample.media = decode_member(extension, content)
        except ValueError as error:
            sample.problem = f"unreadable .{extension}: {error}"

    def _row(self, shard: Shard, position: int) -> Sample:
        where = f"{shard.path}, row {position}"
        group = int(np.searchsorted(shard.bounds, position, side="right")) - 1
        try:
            table = self._group(shard, group)
        except (pa.ArrowException, OSError) as error:
            return Sample(where, None, problem=f"unreadable row group: {error}")
        fields = table.slice(position - int(shard.bounds[group]), 1).to_pylist()[0]
        media, problem = fields.pop(_present(self.request.image, fields), None), None
        if self.request.media == "image":
            media, problem = stored_picture(media, shard.path.parent)
        return Sample(where, media, fields, problem)

    def _group(self, shard: Shard, number: int) -> Any:
        """Return a row group; the latest ones are kept."""
        key = (shard.path, number)
        if key not in self._groups:
            file = self._file(shard)
            rows = int(shard.bounds[number + 1] - shard.bounds[number])
            while self._groups and rows + sum(map(len, self._groups.values())) > self.held:
                self._groups.popitem(last=False)
            columns = self._columns(shard, file.schema_arrow.names)
            self._groups[key] = file.read_row_group(number, columns=columns, use_threads=False)
        self._groups.move_to_end(key)
        return self._groups[key]

    def _columns(self, shard: Shard, names: list[str]) -> list[str]:
        """Return the columns to read from a parquet file that has those of `names`."""
        required = [_present(name, names) for name in self.required]
        wanted = [*required, *(self.others or ())]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ValueError(f"{shard.path}: no column {missing[0]!r}; columns: {some(names, 20)}")
        return names if self.others is None else wanted

    def _file(self, shard: Shard) -> Any:
        if shard.path not in self._open:
            if not shard.is_current():
                raise ValueError(
                    f"{shard.path} has changed since it was indexed: call index_shards again"
                )
            if len(self._open) == _OPEN:
                self._open.popitem(last=False)[1].close()
            parquet = shard.kind == "parquet"
            self._open[shard.path] = (
                pq.ParquetFile(shard.path) if parquet else shard.path.open("rb")
            )
        self._open.move_to_end(shard.path)
        return self._open[shard.path]


def _close(files: Mapping[Path, Any]) -> None:
    for file in files.values():
        file.close()


def _present(wanted: str, names: Container[str]) -> str:
    """Return the column, or the one that stands for it where it is missing."""
    other = _ALIASES.get(wanted, wanted)
    return other if wanted not in names and other in names else wanted
