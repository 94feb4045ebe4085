"""A catalogue made from shards on disk, in one pass that may be interrupted."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from tauten.data.catalogue import Catalogue, Shard
from tauten.data.listing import matches, shards_in, split_names, tables_in
from tauten.data.shards import TruncatedShardError, is_gzip, is_shard
from tauten.data.tar_index import scan_tar
from tauten.files import expanded
from tauten.structure.cells import some

logger = logging.getLogger("tauten.data")

_SUFFIXES = (".tar", ".parquet")
_START = '{"path":"'


def index_shards(
    paths: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    allow_truncated: bool = False,
    progress: bool = True,
) -> Catalogue:
    """Find every sample of WebDataset tars and parquet files, and give each an id.

    One pass over the headers of the tars and the footers of the parquet files; pictures are not
    read. What is found is appended to `output`, one line of JSON for each shard, as soon as the
    shard is done: after an interruption the same call goes on, and later calls read the shards
    that have not changed from there. Of several processes let one call it first.

    Args:
        paths: a file, a folder of shards, a pattern such as "data/train-*.tar", or a list of
            these. The files of a folder or pattern come in the order of their names, those of a
            list as listed; ids depend on the order. A tar must be uncompressed and hold the
            members of a sample side by side, as WebDataset tars do.
        output: a .jsonl file; its folder is made.
        allow_truncated: use the whole members of a tar that is cut, with a warning. Its last
            sample may lack members.
        progress: show a bar if it takes long.

    Returns:
        The catalogue.

    Raises:
        FileNotFoundError: nothing at a path.
        TruncatedShardError: a tar is cut or damaged; the message names it.
        ValueError: a file that cannot be read, is compressed, or is not sorted by sample; a shard
            given twice; no samples; an output that is something else.
    """
    output = expanded(output)
    if output.suffix != ".jsonl":
        raise ValueError(f"output must end with .jsonl, got {output}")
    files = _files(paths)
    known = _Lines(output, files)
    shards = []
    for path in tqdm(files, "indexing shards", unit=" shards", delay=2.0, disable=not progress):
        shard = known.get(path)
        if shard is None:
            shard = _scan(path)
            known.add(shard)
        if shard.damage is not None:
            message = f"{path} is truncated or damaged ({shard.damage})"
            if not allow_truncated:
                raise TruncatedShardError(
                    f"{message}: copy or download it again, or allow_truncated=True to use the "
                    "whole members"
                )
            logger.warning("%s: using the whole members only", message)
        shards.append(shard)
    return Catalogue(shards)


def _files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    if isinstance(paths, str | Path):
        paths = [paths]
    files = [file for path in paths for file in _matches(expanded(path))]
    for file in files:
        if file.suffix.lower() not in _SUFFIXES:
            packed = is_shard(file)
            remedy = "unpack it with gunzip" if packed else "expected .tar or .parquet"
            raise ValueError(f"{file} cannot be read from the middle: {remedy}")
    return files


def _matches(path: Path) -> list[Path]:
    if not path.is_dir():
        return [file.absolute() for file in ([path] if path.is_file() else matches(path))]
    for folder in (path, path / "data"):
        if not folder.is_dir():
            continue
        tars = shards_in(folder)
        tables = {
            name: files
            for name, files in tables_in(folder).items()
            if files[0].suffix.lower() == ".parquet"
        }
        beside = [file.name for files in tables.values() for file in files]
        if tars:
            if beside:
                logger.info("%s: reads the tars, not the tables %s", folder, some(beside))
            return [file.absolute() for file in tars]
        if splits := split_names(tables):
            raise ValueError(
                f"{folder} holds the splits {', '.join(splits)}: name the files of one, for "
                f"example {folder / 'train*.parquet'}"
            )
        if tables:
            return sorted(file.absolute() for files in tables.values() for file in files)
    raise FileNotFoundError(f"no .tar and no .parquet in {path}")


def _scan(path: Path) -> Shard:
    status = path.stat()
    if path.suffix.lower() == ".parquet":
        groups, digest = _scan_parquet(path)
        return Shard(path, status.st_size, status.st_mtime_ns, groups, digest)
    if is_gzip(path):
        raise ValueError(f"{path} is compressed and cannot be read from the middle: gunzip it")
    scan = scan_tar(path)
    bounds = np.array(scan.bounds, dtype=np.int64)
    return Shard(path, status.st_size, status.st_mtime_ns, bounds, scan.digest, scan.damage)


def _scan_parquet(path: Path) -> tuple[npt.NDArray[np.int64], str]:
    try:
        with pq.ParquetFile(path) as file:
            footer = file.metadata
            rows = [footer.row_group(g).num_rows for g in range(footer.num_row_groups)]
        with path.open("rb") as raw:
            raw.seek(-footer.serialized_size - 8, os.SEEK_END)
            digest = hashlib.sha256(raw.read()).hexdigest()[:32]
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a readable parquet file: {error}") from error
    return np.cumsum([0, *rows], dtype=np.int64), digest


class _Lines:
    """The file of a catalogue: lines are only ever added, the last one for a path counts."""

    def __init__(self, path: Path, wanted: Sequence[Path]) -> None:
        self.path = path
        self._found: dict[Path, Shard] = {}
        self._torn = False
        names = {str(file) for file in wanted}
        if not path.exists():
            return
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                self._torn = not line.endswith("\n")
                entry = self._parse(line, number)
                if entry is not None and entry["path"] in names:
                    self._found[Path(entry["path"])] = _shard(entry)

    def get(self, path: Path) -> Shard | None:
        """Return the indexed entry of a file, or None if the file has changed or has no entry."""
        shard = self._found.get(path)
        return shard if shard is not None and shard.is_current() else None

    def add(self, shard: Shard) -> None:
        """Write one line."""
        entry = {
            "path": str(shard.path),
            "size": shard.size,
            "changed": shard.changed,
            "samples": len(shard),
            "digest": shard.digest,
            "damage": shard.damage,
            "first": int(shard.bounds[0]),
            "lengths": np.diff(shard.bounds).tolist(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" * self._torn + json.dumps(entry, separators=(",", ":")) + "\n")
        self._torn = False

    def _parse(self, line: str, number: int) -> dict[str, Any] | None:
        if line.strip() and not line.startswith(_START[: len(line.rstrip())]):
            raise ValueError(
                f"{self.path}, line {number}, is no entry of a catalogue: give another output"
            )
        try:
            entry: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            return None  # cut by an interruption
        return entry


def _shard(entry: dict[str, Any]) -> Shard:
    return Shard(
        path=Path(entry["path"]),
        size=entry["size"],
        changed=entry["changed"],
        bounds=np.cumsum([entry["first"], *entry["lengths"]], dtype=np.int64),
        digest=entry["digest"],
        damage=entry["damage"],
    )
