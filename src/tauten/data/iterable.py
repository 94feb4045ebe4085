"""An epoch of pairs in shards as a Hugging Face ``IterableDataset``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from datasets import Features, Image, IterableDataset

from tauten.data.epoch_order import EpochOrder
from tauten.data.problems import Problem
from tauten.data.shard_pairs import ShardPairs

logger = logging.getLogger("tauten.data")


def as_iterable(pairs: ShardPairs, order: EpochOrder) -> IterableDataset:
    """Return the samples of an epoch, in its order, as a Hugging Face data set.

    Its shards are the windows of the order: ``split_dataset_by_node`` and the workers of a
    DataLoader share them out whole, and ``load_state_dict`` reads again what was given of the
    current window. It is shuffled already; ``shuffle`` would lose its buffer on resuming. Samples
    that cannot be used are left out, with a line in the log for each.

    Args:
        pairs: what is read; pictures are given as stored, for ``datasets`` to decode.
        order: order of the same catalogue.

    Returns:
        Columns `index`, `image`, `caption` and the others of the first usable sample, with its
        types.

    Raises:
        ValueError: no usable sample; columns whose type the first one does not tell.
    """
    stored = pairs.sized(None)
    first = next(_rows(stored, order, [(0, len(order))]), None)
    if first is None:
        raise ValueError(f"none of the {len(pairs)} samples can be used")
    features = Features.from_arrow_schema(pa.Table.from_pylist([first]).schema)
    unknown = [name for name, value in first.items() if value is None or value == []]
    if unknown:
        raise ValueError(
            f"the first sample has no value in {', '.join(unknown)}: name the columns that all "
            "samples have, ShardPairs(columns=[...])"
        )
    if pairs.pictures:
        features["image"] = Image()
    windows = list(zip(order.bounds[:-1].tolist(), order.bounds[1:].tolist(), strict=True))
    settings = {"pairs": stored, "order": order, "windows": windows}
    return IterableDataset.from_generator(_rows, features=features, gen_kwargs=settings)


def _rows(
    pairs: ShardPairs, order: EpochOrder, windows: list[tuple[int, int]]
) -> Iterator[dict[str, Any]]:
    for window in windows:
        for index in order.ids(*window).tolist():
            row = pairs.row(index)
            if isinstance(row, Problem):
                logger.warning("skipped %s", row)
                continue
            if pairs.pictures:
                row["image"] = {"bytes": row["image"], "path": None}
            yield row
