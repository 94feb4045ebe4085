"""emoji_lt: 1,906 emoji, each drawn by up to three artists, with names and a long tail of
classes."""

import csv
import hashlib
import io
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, Image, List, Value
from PIL import Image as PILImage

from tauten.data.bitmaps import to_bitmaps
from tauten.data.emoji_attributes import one_apart

#: column of captions that differ in one attribute
APART = "one_apart"
#: column of a second drawing
ANOTHER = "another"

STYLES = ("noto", "twemoji", "fluent3d")
SPLITS = ("train", "val", "test")
_FOLDER = "embedded/emoji_lt"
_CELL = 32
_COLUMNS = 44

_FEATURES = Features(
    {
        "index": Value("int64"),
        "image": Image(),
        "caption": Value("string"),
        "alt_caption": Value("string"),
        "keywords": List(Value("string")),
        "label": Value("string"),
        "group": Value("string"),
        "concept": Value("string"),
        "style": Value("string"),
        "id": Value("string"),
    }
)


def emoji_lt(
    split: Literal["train", "val", "test"], *, apart: bool = False, another: bool = False
) -> Dataset:
    """Load a split of emoji_lt, the data set inside this package: no network, nothing written.

    train has 3,812 pairs, the drawings of two artists, in 98 classes of 518 to 2 pairs, median 26.
    val (909) and test (943) are the drawings of a third artist, of concepts seen in training; they
    share no concept with each other.

    Columns: `index` (int64, 0..n-1), `image` (RGB, 32x32 pixels, on white), `caption` (unique per
    concept), `alt_caption`, `keywords` (list of texts), `label` (the long-tailed class, 98 in all),
    `group` (9 coarse classes), `concept` (code points), `style` (artist), `id`. In train, 47
    pictures equal an earlier one's pixels (territories that fly their state's flag): in a batch
    they are false negatives.

    Licences and attribution lie beside the data in the package.

    Args:
        split: "train", "val" or "test".
        apart: add the column `one_apart`: for each picture the captions of other emoji that differ
            from its own in one attribute (who, colour, size, direction, state), mostly none.
        another: add the column `another`: a second drawing of the concept by another artist, noto
            or twemoji, for half of the concepts and None for the others, by a hash.

    Returns:
        The data set, in memory, in a fixed order.

    Raises:
        ValueError: another split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    folder = files("tauten.data") / _FOLDER
    index = list(csv.DictReader(io.StringIO((folder / "index.csv").read_text("utf-8"))))
    chosen = [(row, style) for row in index for style in STYLES if row[style] == split]
    sheets = {
        style: _bitmaps(style) for style in STYLES if any(style == used for _, used in chosen)
    }
    columns: dict[str, list[Any]] = {
        "index": list(range(len(chosen))),
        "image": [
            {"bytes": sheets[style][int(row["cell"])], "path": None} for row, style in chosen
        ],
        "caption": [row["caption"] for row, _ in chosen],
        "alt_caption": [row["alt_caption"] for row, _ in chosen],
        "keywords": [row["keywords"].split("|") for row, _ in chosen],
        "label": [row["subgroup"] for row, _ in chosen],
        "group": [row["group"] for row, _ in chosen],
        "concept": [row["concept"] for row, _ in chosen],
        "style": [style for _, style in chosen],
        "id": [f"{row['concept'].lower()}_{style}" for row, style in chosen],
    }
    kinds = dict(_FEATURES)
    if apart:
        columns[APART] = one_apart(columns["caption"], {row["caption"] for row in index})
        kinds[APART] = List(Value("string"))
    if another:
        columns[ANOTHER], kinds[ANOTHER] = _others(chosen), Image()
    features = Features(kinds)
    table = pa.Table.from_pydict(columns, schema=features.arrow_schema)
    return Dataset(table, info=DatasetInfo(features=features))


def _others(chosen: list[tuple[dict[str, str], str]]) -> list[dict[str, Any] | None]:
    """Return a drawing by another artist of every second concept."""
    sheets = {style: _bitmaps(style) for style in STYLES[:2]}
    drawings: list[dict[str, Any] | None] = []
    for row, style in chosen:
        hidden = hashlib.sha256(row["concept"].encode()).digest()[0] % 2
        other = STYLES[1] if style == STYLES[0] else STYLES[0]
        bitmap = sheets[other][int(row["cell"])]
        drawings.append(None if hidden or not row[other] else {"bytes": bitmap, "path": None})
    return drawings


@lru_cache(maxsize=1)  # the third artist's is that of val and test
def _bitmaps(style: str) -> tuple[bytes, ...]:
    """Cut an artist's sheet into its cells, row by row, each as a bitmap."""
    sheet = (files("tauten.data") / _FOLDER / f"{style}_32.webp").read_bytes()
    pixels = np.asarray(PILImage.open(io.BytesIO(sheet)).convert("RGB"))
    rows = pixels.shape[0] // _CELL
    grid = pixels.reshape(rows, _CELL, _COLUMNS, _CELL, 3).swapaxes(1, 2)
    return tuple(to_bitmaps(grid.reshape(rows * _COLUMNS, _CELL, _CELL, 3)))
