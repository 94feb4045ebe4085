"""Numbers of two files of embeddings, whoever made them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.files import error_line
from tauten.inference.kept import Groups, check_wanted, finished
from tauten.structure.cells import missing, some
from tauten.structure.tables import column_names, read_rows
from tauten.training.stores.classes import Classes
from tauten.training.stores.rows import UNLABELLED, class_names
from tauten.training.tasks.encoded import Encoded

logger = logging.getLogger("tauten.inference")

_IMAGES, _CAPTIONS = ("image", "file_name", "x"), ("caption", "captions", "text")


def evaluate_files(
    x: str | Path | Any,
    y: str | Path | Any,
    table: str | Path | None = None,
    *,
    image: str | None = None,
    caption: str | None = None,
    label: str | None = None,
    count: str | None = None,
    groups: Groups = "counts",
    head: int = 100,
    tail: int = 20,
    bootstrap: int = 1000,
    output: str | Path | None = None,
    keep: str | Path | None = None,
    name: str = "embeddings",
) -> dict[str, float]:
    """Evaluate two files of embeddings: retrieval both ways by head, mid and tail, and geometry.

    Rows of the table that name the same picture are one picture, and equal captions are one text,
    as in training. The rows of ``x`` are the different pictures in order of first appearance, or
    one for each row of the table; those of ``y`` the different captions, or all of them one after
    the other.

    Args:
        x: .npy file, or array, (N, d): pictures.
        y: likewise, (M, d): captions.
        table: .csv, .tsv, .jsonl, .json or .parquet; without one row i of x and of y are a pair.
        image: its column that names the picture; by default image, file_name or x, else every row
            is a picture of its own.
        caption: its column of captions, texts or lists; by default caption, captions or text, else
            every row is a caption of its own.
        label: its column of classes; by default label, if there is one that is not empty.
        count: its column with the number of training samples of the row's class; by default the
            pictures of each class in the table.
        groups: head, mid and tail by these counts, or by thirds of the classes.
        head: classes with at least this count are head.
        tail: classes with a lower count are tail.
        bootstrap: replicates of the 95 % intervals; 0 for none.
        output: a json file to write the metrics to.
        keep: a folder to write what ``tauten report`` reads, with the page's numbers by query.
        name: name of the model, in that report.

    Returns:
        Metrics as of :func:`tauten.training.evaluate`.

    Raises:
        ValueError: numbers of rows that do not fit each other, columns that are not there.
    """
    check_wanted(bootstrap, groups, output, keep)
    sides = {"x": _matrix(x, "x"), "y": _matrix(y, "y")}
    if table is None and len(sides["x"]) != len(sides["y"]):
        raise ValueError(
            f"x has {len(sides['x'])} rows and y {len(sides['y'])}: without a table row i of both "
            "is a pair; give the table that says what belongs together"
        )
    rows: list[dict[str, Any]] = (
        [{} for _ in sides["x"]]
        if table is None
        else read_rows(
            Path(table),
            text={*_IMAGES, *_CAPTIONS, "label", *filter(None, (image, caption, label))},
            classes={*filter(None, ("label", label))} - {image, caption},
        )
    )
    place = "the pairs" if table is None else str(table)
    names = column_names(rows)
    pictures = [
        row if cell is None else _key(cell, "picture", row, place)
        for row, cell in enumerate(
            _column(rows, _chosen(image, _IMAGES, names, "image", place), place)
        )
    ]
    texts = [
        [row]
        if cell is None
        else [
            _key(text, "caption", row, place)
            for text in (cell if isinstance(cell, list) else [cell])
        ]
        for row, cell in enumerate(
            _column(rows, _chosen(caption, _CAPTIONS, names, "caption", place), place)
        )
    ]
    bare = [row for row, cell in enumerate(texts) if not cell]
    if bare:
        raise ValueError(
            f"{len(bare)} of {len(rows)} rows of {place} have no caption, first: row "
            f"{bare[0]}: leave them out of the table and of x"
        )
    first_x, first_y = _first(pictures), _first([text for cell in texts for text in cell])
    matrices = {
        "x": _rows(sides["x"], first_x, len(rows), "pictures", "x", place),
        "y": _rows(sides["y"], first_y, sum(map(len, texts)), "captions", "y", place),
    }
    y_at = {text: j for j, text in enumerate(first_y)}
    captions_of: dict[Hashable, list[int]] = {picture: [] for picture in first_x}
    for picture, given in zip(pictures, texts, strict=True):
        captions_of[picture] += [y_at[text] for text in given]
    labels, classes = None, None
    filled = any(not missing(row.get("label")) for row in rows)
    column = label or ("label" if filled else None)
    if column is not None:
        _chosen(column, (), names, "label", place)
        of_rows = class_names([row.get(column) for row in rows], column, place)
        labels = [of_rows[row] for row in first_x.values()]
        _warn_of_several(dict(zip(first_x, labels, strict=True)), pictures, of_rows, place)
        classes = Classes(_sizes(rows, of_rows, labels, count, place), head, tail, groups)
    elif count is not None:
        raise ValueError(f"count={count!r} needs classes: give label, too")
    encoded = Encoded(
        x=F.normalize(matrices["x"], dim=1),
        y=F.normalize(matrices["y"], dim=1),
        captions=[str(text) for text in first_y],
        y_of_x=[list(dict.fromkeys(given)) for given in captions_of.values()],
        labels=labels,
        groups=None if classes is None or labels is None else classes.groups(labels),
    )
    return finished(encoded, classes, bootstrap, output, keep, name=name, data=place)


def _matrix(given: Any, name: str) -> Tensor:
    if isinstance(given, str | Path):
        path = Path(given)
        if not path.is_file():
            raise ValueError(f"{name}={path} is no file: give a .npy file of embeddings")
        try:
            with path.open("rb") as file:
                given = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise ValueError(
                f"{name}={path} is no readable .npy file: {error_line(error)}"
            ) from error
        name = f"{name}={path}"
    if not isinstance(given, Tensor | np.ndarray) or given.ndim != 2 or 0 in given.shape:
        shape = getattr(given, "shape", None)
        raise ValueError(f"{name} must be a matrix (rows, width), got {shape or type(given)}")
    if isinstance(given, np.ndarray) and given.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what becomes inf is refused with its row
            return torch.from_numpy(np.require(given, np.float32, ["C", "W"]))
    if isinstance(given, np.ndarray):
        raise ValueError(f"{name} must hold floats, got {given.dtype}")
    matrix = given.detach().cpu()
    if not matrix.is_floating_point():
        raise ValueError(f"{name} must hold floats, got {matrix.dtype}")
    return matrix.float()


def _chosen(
    given: str | None, usual: Sequence[str], names: list[str], what: str, place: str
) -> str | None:
    if given is not None and given not in names:
        raise ValueError(f"no {what} column {given!r} in {place}; columns: {some(names, 20)}")
    return given or next((name for name in usual if name in names), None)


def _column(rows: list[dict[str, Any]], name: str | None, place: str) -> list[Any]:
    """Return the cells of a column; None in all rows where there is no column."""
    cells = [None if name is None else row.get(name) for row in rows]
    lost = [row for row, cell in enumerate(cells) if name is not None and missing(cell)]
    if lost:
        raise ValueError(
            f"{len(lost)} of {len(rows)} rows of {place} have nothing in the column {name!r}, "
            f"first: row {lost[0]}: fill them, or leave them out of the table and of x and y"
        )
    return cells


def _key(cell: Any, what: str, row: int, place: str) -> str | bytes:
    """Return what tells a picture or caption from others: numbers are taken as texts."""
    if isinstance(cell, list | dict) or missing(cell):
        kind = "blank" if missing(cell) else f"of type {type(cell).__name__}"
        raise ValueError(f"{place}, row {row}: a {what} is a text or a number, one is {kind}")
    return cell if isinstance(cell, str | bytes) else str(cell)


def _warn_of_several(
    class_of: dict[Hashable, str], pictures: Sequence[Hashable], of_rows: list[str], place: str
) -> None:
    """Say how many pictures have rows of several classes."""
    several = {
        picture: row
        for row, (picture, name) in reversed(list(enumerate(zip(pictures, of_rows, strict=True))))
        if class_of[picture] != name
    }
    if several:
        logger.warning(
            "%d of %d pictures of %s have rows of several classes, first: row %d; the class of "
            "their first row is taken",
            len(several), len(class_of), place, min(several.values()),
        )  # fmt: skip


def _first(keys: Sequence[Any]) -> dict[Hashable, int]:
    """Return the first position of each different key."""
    positions: dict[Hashable, int] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, position)
    return positions


def _rows(
    matrix: Tensor, first: dict[Hashable, int], whole: int, what: str, name: str, place: str
) -> Tensor:
    """Return the rows of the different keys."""
    if len(matrix) == len(first):
        return matrix
    if len(matrix) == whole:
        return matrix[list(first.values())]
    numbers = f"{whole} {what}, {len(first)} of them different" if whole > len(first) else whole
    raise ValueError(
        f"{name} has {len(matrix)} rows, and {place} names {numbers}"
        f"{'' if isinstance(numbers, str) else f' {what}'}: each needs one row"
    )


def _sizes(
    rows: list[dict[str, Any]],
    of_rows: list[str],
    labels: list[str],
    count: str | None,
    place: str,
) -> dict[str, int]:
    """Return the training count of each class."""
    if count is None:
        return {name: n for name, n in Counter(labels).items() if name != UNLABELLED}
    _chosen(count, (), column_names(rows), "count", place)
    sizes: dict[str, int] = {}
    for row, name in enumerate(of_rows):
        cell = rows[row].get(count)
        if name == UNLABELLED:
            continue
        if missing(cell) or not str(cell).removesuffix(".0").isdecimal():
            raise ValueError(f"{place}, row {row}: {count}={cell!r} is no whole number of samples")
        size = int(float(str(cell)))
        if sizes.setdefault(name, size) != size:
            raise ValueError(
                f"{place}, row {row}: the class {name!r} has {count}={size}, before it was "
                f"{sizes[name]}: a class has one number of training samples"
            )
    return sizes
