"""Data sets of the package ``datasets``: saved in a folder, or on the Hugging Face hub."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, load_dataset, load_from_disk

from tauten.data.listing import SPLITS
from tauten.data.sources import Request, Sample, table_samples
from tauten.files import expanded
from tauten.structure.cells import missing, short

logger = logging.getLogger("tauten.data")

#: what the name of a data set on the hub begins with
HUB = "hf:"
_CHUNK = 256


def is_hub(path: str | Path) -> bool:
    """Tell the name of a data set on the hub from a place on disk."""
    return str(path).startswith(HUB) and not Path(path).exists()


def read_saved(folder: Path, request: Request) -> Iterator[Sample]:
    """Read what ``Dataset.save_to_disk`` has written, of one split or several.

    Raises:
        ValueError: damaged files.
    """
    try:
        saved = load_from_disk(str(folder))
    except Exception as error:  # damaged files raise errors of any kind
        raise ValueError(f"{folder} is no readable saved data set: {short(str(error))}") from error
    parts = saved if isinstance(saved, DatasetDict) else {"": saved}
    return _samples(parts, {name: f"{folder / name}" for name in parts}, folder, request)


def read_hub(source: str, request: Request) -> Iterator[Sample]:
    """Read a data set of the hub, or of a folder in one of its layouts, by ``load_dataset``.

    It is loaded as a whole, into the cache of ``datasets``. Splits named train, val and test (or
    validation, dev) give a column ``split`` if there are several; a line in the log names others,
    which are left out. Numbers of classes become their names.

    Args:
        source: ``hf:ORG/NAME``, perhaps with ``:CONFIGURATION`` and ``@SPLIT``, where a split is as
            ``load_dataset`` takes it, such as ``train[:10%]``.
        request: names of the columns.

    Raises:
        ValueError: nothing of this name, no connection, or an unknown configuration or split.
    """
    name, config, split = hub_name(source)
    try:
        loaded = load_dataset(str(expanded(name)), config or None, split=split or None)
    except Exception as error:  # of the hub, of the network, or of damaged files
        raise ValueError(
            f"{source} cannot be loaded by datasets.load_dataset: {short(str(error), 300)}"
        ) from error
    parts = loaded if isinstance(loaded, DatasetDict) else {"": loaded}
    if len(parts) > 1:
        known = [part for part in parts if part in SPLITS]
        if not known:
            raise ValueError(
                f"{source} has the splits {', '.join(parts)}: choose one as {source}@SPLIT"
            )
        if others := [part for part in parts if part not in known]:
            logger.warning("%s: splits that are left out: %s", source, ", ".join(others))
        parts = {part: parts[part] for part in known}
    if len(parts) == 1:
        parts = {"": next(iter(parts.values()))}
    where = {part: f"{source} {part}".strip() for part in parts}
    return _samples(parts, where, Path(), request, named=True)


def hub_name(source: str) -> tuple[str, str, str]:
    """Return name or folder, configuration and split of ``hf:NAME:CONFIGURATION@SPLIT``.

    Raises:
        ValueError: no name.
    """
    name, split = source.removeprefix(HUB), ""
    if not expanded(name).exists() and "@" in name:
        name, _, split = name.rpartition("@")
    if not name:
        raise ValueError(f"{source} names no data set: give hf:ORG/NAME")
    if expanded(name).exists():
        return name, "", split
    name, _, config = name.partition(":")
    return name, config, split


def _samples(
    parts: Mapping[str, Dataset],
    where: Mapping[str, str],
    base: Path,
    request: Request,
    named: bool = False,
) -> Iterator[Sample]:
    for part, data in parts.items():
        rows = data.with_format("arrow")
        names = {c: f for c, f in data.features.items() if named and isinstance(f, ClassLabel)}
        for start in range(0, len(data), _CHUNK):
            chunk = rows[start : start + _CHUNK].to_pylist()
            for row in chunk:
                row |= {c: _class_name(row[c], feature) for c, feature in names.items()}
            place = f"{where[part]}, row "
            for sample in table_samples(
                chunk, data.column_names, place, base, request, first=start
            ):
                if part:
                    sample.fields.setdefault("split", part)
                yield sample


def _class_name(number: Any, feature: ClassLabel) -> Any:
    """Return the name of a class; None for -1, which stands for an unknown one."""
    return None if missing(number) or number < 0 else feature.int2str(int(number))
