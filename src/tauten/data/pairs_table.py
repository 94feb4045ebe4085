"""Samples of pairs as a Hugging Face data set in memory."""

from __future__ import annotations

import logging
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, Image

from tauten.data.sources import Sample
from tauten.structure.cells import some, whole_text

logger = logging.getLogger("tauten.data")

_CHUNK = 1024


def as_dataset(samples: list[Sample], media_name: str, pictures: bool) -> Dataset:
    """Return samples as a table; the log names columns that are left out or repaired.

    Args:
        samples: with a field "caption" each.
        media_name: name of the column of the first modality.
        pictures: whether these are pictures, as {"bytes", "path"}.
    """
    if any(isinstance(sample.fields["caption"], list) for sample in samples):
        for sample in samples:
            texts = sample.fields["caption"]
            sample.fields["caption"] = texts if isinstance(texts, list) else [texts]
    names = dict.fromkeys(name for sample in samples for name in sample.fields)
    arrays: dict[str, Any] = {"index": pa.array(range(len(samples)), pa.int64())}
    arrays[media_name] = _media_array(samples, pictures)
    texts = [sample.fields["caption"] for sample in samples]
    bare = all(isinstance(cell, list) and not cell for cell in texts)
    arrays["caption"] = pa.array(texts, pa.list_(pa.string()) if bare else None)
    mixed, halves = [], []
    for name in names:
        if name in arrays:
            continue
        values = [sample.fields.get(name) for sample in samples]
        try:
            try:
                arrays[name] = pa.array(values)
            except UnicodeEncodeError:
                halves.append(name)
                arrays[name] = pa.array([_repaired(value) for value in values])
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            mixed.append(name)
    if mixed:
        logger.warning("left out columns whose values are of several types: %s", some(mixed, 20))
    if halves:
        logger.warning("half characters became U+FFFD in the columns %s", some(halves, 20))
    table = pa.table(arrays)
    features = Features.from_arrow_schema(table.schema)
    if pictures:
        features["image"] = Image()
    return Dataset(table, info=DatasetInfo(features=features))


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, list):
        return [_repaired(cell) for cell in value]
    if isinstance(value, dict):
        return {_repaired(name): _repaired(cell) for name, cell in value.items()}
    return value


def _media_array(samples: list[Sample], pictures: bool) -> Any:
    if not pictures:
        return pa.array([sample.media for sample in samples])
    chunks = [
        pa.array([sample.media for sample in samples[start : start + _CHUNK]], Image.pa_type)
        for start in range(0, len(samples), _CHUNK)
    ]
    return pa.chunked_array(chunks, Image.pa_type)
