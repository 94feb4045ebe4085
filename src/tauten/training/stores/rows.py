"""Rows of a source as samples: one for each picture, with its class."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from datasets import Dataset, List, Value

from tauten.structure.cells import counted, missing, texts_of
from tauten.training.stores.held_out import raw_images
from tauten.training.stores.own_negatives import all_texts

logger = logging.getLogger("tauten.training")

#: label of a sample without a class
UNLABELLED = ""
_APART = ("split",)


def one_per_picture(
    dataset: Dataset,
    label: str | None,
    source: str,
    negatives: str | None = None,
    others: Sequence[str] = (),
) -> Dataset:
    """Join the rows of one picture into a sample with several captions.

    Rows of one file are joined, and rows of equal bytes whose captions differ, if they are of one
    class and one split. Own negatives are those of all rows, further pictures those of the first
    row that has one, other columns those of the first.

    Args:
        dataset: with the columns image and caption.
        label: column of classes.
        source: for the line in the log.
        negatives: column of own negatives.
        others: columns of further pictures.

    Returns:
        The data set itself where every picture is in one row.
    """
    apart = [name for name in (*_APART, label) if name in dataset.column_names]
    columns = [dataset[name][:] for name in apart]
    captions = [texts_of(cell) for cell in dataset["caption"][:]]
    rows: dict[Any, list[int]] = defaultdict(list)
    stored = raw_images(dataset)
    for row, cell in enumerate(stored):
        content: Any = hashlib.sha256(cell).digest() if isinstance(cell, bytes) else str(cell)
        if cell is None:  # a missing picture is that of no other row
            content = row
        rows[content, tuple(str(column[row]) for column in columns)].append(row)
    groups: list[list[int]] = []
    for places in rows.values():
        texts = {tuple(captions[row]) for row in places}
        whole = isinstance(stored[places[0]], str) or len(texts) > 1
        groups += [places] if whole else [[row] for row in places]
    groups.sort()
    if len(groups) == len(dataset):
        return dataset
    logger.info(
        "%s: %d rows show %s, each is one sample with the captions of its rows",
        source,
        len(dataset),
        counted(len(groups), "picture"),
    )
    joined = [
        list(dict.fromkeys(text for row in places for text in captions[row])) for places in groups
    ]
    first = dataset.select([places[0] for places in groups]).remove_columns("caption")
    samples = first.add_column("caption", joined, feature=List(Value("string")))
    for name in others:
        samples = _first_there(samples, dataset, name, groups, source)
    if negatives is None or negatives not in dataset.column_names:
        return samples
    cells = dataset[negatives][:]
    wrong = [all_texts([cells[row] for row in places]) for places in groups]
    return samples.remove_columns(negatives).add_column(
        negatives, wrong, feature=List(Value("string"))
    )


def _first_there(
    samples: Dataset, dataset: Dataset, name: str, groups: Sequence[Sequence[int]], source: str
) -> Dataset:
    """Give joined samples the first cell of a column that is not empty; count those left out."""
    if name not in dataset.column_names:
        return samples
    cells = dataset.select_columns([name]).with_format("arrow")[:][name].to_pylist()
    there = [[cells[row] for row in places if not missing(cells[row])] for places in groups]
    more = [len({str(cell) for cell in row}) - 1 for row in there]
    if any(count > 0 for count in more):
        logger.warning(
            "%s: left out: %s of the column %r, of %s with one of an earlier row",
            source,
            counted(sum(max(count, 0) for count in more), "further picture"),
            name,
            counted(sum(count > 0 for count in more), "sample"),
        )
    return samples.remove_columns(name).add_column(
        name, [next(iter(row), None) for row in there], feature=dataset.features[name]
    )


def class_names(cells: Sequence[Any], label: str, source: str, needed: bool = False) -> list[str]:
    """Return the class of each sample as text, ``UNLABELLED`` where it is missing.

    Args:
        cells: texts or numbers; None, NaN and blank texts are missing.
        label: the column, for messages.
        source: of the data, for messages.
        needed: whether every sample needs one.

    Raises:
        ValueError: cells that are lists or objects; no class at all; a missing one where all are
            needed, with how many there are and the first.
    """
    lacking = [row for row, cell in enumerate(cells) if missing(cell)]
    odd = next((cell for cell in cells if isinstance(cell, list | dict)), None)
    if odd is not None:
        raise ValueError(
            f"the label column {label!r} of {source} holds values of type {type(odd).__name__}: a "
            "class is one text or number"
        )
    if lacking and (needed or len(lacking) == len(cells)):
        raise ValueError(
            f"{len(lacking)} of {len(cells)} samples of {source} have no class in the label column "
            f"{label!r}, first: sample {lacking[0]}: label them, or leave those rows out"
        )
    whole = all(
        isinstance(cell, float) and cell.is_integer() for cell in cells if not missing(cell)
    )
    names = [
        UNLABELLED if missing(cell) else _name(cell, bool(lacking) and whole) for cell in cells
    ]
    if lacking:
        logger.warning(
            "%d of %d samples of %s have no class in the label column %r, first: sample %d; they "
            "are in no class and in none of head, mid and tail",
            len(lacking),
            len(cells),
            source,
            label,
            lacking[0],
        )
    return names


def _name(cell: Any, whole: bool) -> str:
    """Return the class as text;
    whole numbers that a gap has turned into floats are written as such.
    """
    if isinstance(cell, bytes):
        return cell.decode("utf-8-sig", "replace").strip()
    return str(int(cell)) if whole else str(cell)
