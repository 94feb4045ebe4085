"""Embeddings of a whole data set on disk, block by block, so that a kill loses one block."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from tqdm import tqdm

from tauten.checks import whole
from tauten.files import (
    Lock,
    expanded,
    make_folder,
    remove_parts,
    replace_text,
    sha256,
    sync_tree,
)
from tauten.inference.embedded import (
    CHECKED,
    FORMAT,
    MARK,
    RECORD,
    SIDES,
    Embedded,
    read_record,
    write_tables,
)
from tauten.inference.loading import load
from tauten.inference.model import Model
from tauten.inference.samples import Samples, read_samples
from tauten.training.run.places import shown

logger = logging.getLogger("tauten.inference")

_SAME = ("model_fingerprint", "data_fingerprint", "dim", "images", "texts")


def embed(
    model: str | Path | Model,
    data: str | Path | Dataset | None = None,
    output: str | Path = "embeddings",
    *,
    split: str | None = None,
    image: str | None = None,
    caption: str | None = None,
    label: str | None = None,
    batch_size: int = 64,
    block: int = 4096,
    device: str | torch.device | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Embedded:
    """Embed all pictures and the different captions of a data set into a folder.

    The folder has ``images.npy`` and ``texts.npy`` (float32, rows of length 1), and
    ``images.parquet`` (image, file, caption, label) and ``texts.parquet`` (text, images), whose
    rows are theirs. What the model does not embed is left out. The same call after a kill goes on
    with the block that was not finished.

    Args:
        model: a model, or what :func:`tauten.load` takes.
        data: see :func:`tauten.inference.samples.read_samples`; by default a run's own test split.
        output: folder written to.
        split: train, val or test.
        image: column of the pictures.
        caption: column of the captions.
        label: column of the classes.
        batch_size: pictures or texts at a time.
        block: rows that are written at a time.
        device: such as "cuda"; by default the model's.
        overwrite: replace embeddings of another model or other data.
        progress: show a bar.

    Raises:
        ValueError: data that cannot be read, an output with something else in it, or with
            embeddings of another model or other data.
    """
    block, batch_size = whole("block", block, 1), whole("batch_size", batch_size, 1)
    folder = Path(output)
    _check_output(folder, overwrite)
    loaded = model if isinstance(model, Model) else load(model)
    if device is not None:
        loaded.to(device)
    samples = read_samples(loaded, data, split, image, caption, label, progress)
    run_data = shown(loaded.data.source) if loaded.data is not None else ""
    counts = _counts(loaded, samples)
    record: dict[str, Any] = {
        MARK: FORMAT,
        "model": _place(loaded.name, folder),
        "model_fingerprint": loaded.fingerprint(),
        "data": run_data
        if data is None
        else "a data set"
        if isinstance(data, Dataset)
        else shown(str(data)),
        "data_fingerprint": samples.fingerprint,
        "dim": loaded.dim,
        **counts,
        "done": dict.fromkeys(SIDES, 0),
        "complete": False,
    }
    with Lock(folder, "an embedding"):
        remove_parts(folder)
        begun = _begun(folder, record, overwrite)
        if begun is not None and begun["complete"]:
            return Embedded(folder)
        record["done"] = record["done"] if begun is None else begun["done"]
        _save(folder, record)
        done, total = sum(record["done"].values()), sum(counts.values())
        try:
            with tqdm(total=total, initial=done, unit=" rows", disable=not progress) as bar:
                for side, encode in _encoders(loaded, samples, batch_size).items():
                    bar.set_description(side)
                    _write_side(folder, record, side, encode, block, bar)
        except KeyboardInterrupt as stop:
            done = sum(record["done"].values())
            raise KeyboardInterrupt(f"{folder} has {done} of {total} rows") from stop
        write_tables(folder, samples)
        for side in SIDES:
            if (folder / _draft(side)).exists():
                (folder / _draft(side)).replace(folder / f"{side}.npy")
        sync_tree(folder)
        files = [folder / f"{side}.npy" for side in SIDES if counts[side]]
        sums = {path.name: sha256(path) for path in files if path.stat().st_size <= CHECKED}
        _save(folder, record | {"sums": sums, "complete": True})
    return Embedded(folder)


def _counts(model: Model, samples: Samples) -> dict[str, int]:
    sides = {"images": len(samples.ids), "texts": len(samples.texts)}
    counts = {s: count if getattr(model.towers, s) else 0 for s, count in sides.items()}
    if not any(counts.values()):
        raise ValueError(f"{model.name} embeds texts alone, and the data have no captions")
    return counts


def _encoders(
    model: Model, samples: Samples, batch_size: int
) -> dict[str, Callable[[int, int], Tensor]]:
    return {
        "images": lambda start, stop: samples.encode(model, start, stop, batch_size),
        "texts": lambda start, stop: model.encode_text(samples.texts[start:stop], batch_size),
    }


def _write_side(
    folder: Path,
    record: dict[str, Any],
    side: str,
    encode: Callable[[int, int], Tensor],
    block: int,
    bar: Any,
) -> None:
    """Write the rows of one side that are not there yet, and note each block."""
    count, path = record[side], folder / _draft(side)
    if not count:
        return
    begun = record["done"][side] > 0
    shape = (count, record["dim"])
    rows = np.lib.format.open_memmap(
        path, "r+" if begun else "w+", dtype=None if begun else np.float32,
        shape=None if begun else shape,
    )  # fmt: skip
    for start in range(record["done"][side], count, block):
        stop = min(start + block, count)
        rows[start:stop] = encode(start, stop).numpy()
        rows.flush()
        record["done"][side] = stop
        _save(folder, record)
        bar.update(stop - start)


def _draft(side: str) -> str:
    return f"{side}.npy.unfinished"


def _save(folder: Path, record: dict[str, Any]) -> None:
    replace_text(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False))


def _check_output(folder: Path, overwrite: bool) -> None:
    """Refuse a folder with something else in it, before the work."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {folder} is a file, not a folder: choose another output")
    if not (folder / RECORD).exists():
        others = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        foreign = sorted(name for name in others if not name.startswith("."))
        if foreign:
            raise ValueError(
                f"output {folder} holds other files ({', '.join(foreign[:3])}): choose another "
                "output"
            )
        make_folder(folder.parent)
    elif not overwrite:
        read_record(folder)


def _begun(folder: Path, record: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """Return what an earlier call left of the same embeddings; remove or refuse others."""
    if not (folder / RECORD).exists():
        return None
    try:
        stored = read_record(folder)
    except ValueError:
        if not overwrite:
            raise
        stored = {}
    changed = [name for name in _SAME if stored.get(name) != record[name]]
    if changed and not overwrite:
        what = "another model" if changed[0].startswith("model") else "other data"
        raise ValueError(
            f"output {folder} holds embeddings of {what} ({stored['model']['name']} on "
            f"{stored['data']}): choose another output, or overwrite=True to replace them"
        )
    if changed:
        for name in (RECORD, *(f"{s}.{kind}" for s in SIDES for kind in ("npy", "parquet"))):
            (folder / name).unlink(missing_ok=True)
        return None
    try:
        if stored["complete"]:
            Embedded(folder)
        else:
            _check_drafts(folder, stored)
    except ValueError as error:
        logger.warning("%s: all is embedded again", str(error).removesuffix(": embed again"))
        return None
    return stored


def _check_drafts(folder: Path, record: dict[str, Any]) -> None:
    """Refuse rows of an earlier call that are not all there."""
    for side in SIDES:
        if not record["done"][side]:
            continue
        path = folder / _draft(side)
        try:
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is missing or damaged") from error
        if shape != (record[side], record["dim"]):
            raise ValueError(f"{path} has the shape {shape}")


def _place(name: str, folder: Path) -> dict[str, str]:
    """Return the name of a model and, for a folder, its place as seen from the embeddings."""
    path = expanded(name)
    if not path.is_dir():
        return {"name": name}
    return {"name": path.name, "place": os.path.relpath(path.absolute(), folder.absolute())}
