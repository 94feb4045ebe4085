"""emoji_lt: 1,906 emoji, each drawn by up to three artists, with names and a long tail of
classes."""

import csv
import hashlib
import io
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from tauten.data.emoji_attributes import one_apart

#: column of captions that differ in one attribute
APART = "one_apart"
#: column of a second drawing
ANOTHER = "another"

STYLES = ("noto", "twemoji", "fluent3d")
SPLITS = ("train", "val", "test")
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
    folder = files("tauten.data") / "embedded" / "emoji_lt"
    index = list(csv.DictReader(io.StringIO((folder / "index.csv").read_text("utf-8"))))
    chosen = [(row, style) for row in index for style in STYLES if row[style] == split]
    sheets = {
        style: _cells((folder / f"{style}_32.webp").read_bytes())
        for style in STYLES
        if any(style == used for _, used in chosen)
    }
    columns: dict[str, list[Any]] = {
        "index": list(range(len(chosen))),
        "image": [
            {"bytes": _bmp(sheets[style][int(row["cell"])]), "path": None} for row, style in chosen
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
    features = dict(_FEATURES)
    if apart:
        columns[APART] = one_apart(columns["caption"], {row["caption"] for row in index})
        features[APART] = List(Value("string"))
    if another:
        columns[ANOTHER], features[ANOTHER] = _others(chosen), Image()
    return Dataset.from_dict(columns, features=Features(features))


def _others(chosen: list[tuple[dict[str, str], str]]) -> list[dict[str, Any] | None]:
    """Return a drawing by another artist of every second concept."""
    folder = files("tauten.data") / "embedded" / "emoji_lt"
    sheets = {s: _cells((folder / f"{s}_32.webp").read_bytes()) for s in STYLES[:2]}
    drawings: list[dict[str, Any] | None] = []
    for row, style in chosen:
        hidden = hashlib.sha256(row["concept"].encode()).digest()[0] % 2
        other = STYLES[1] if style == STYLES[0] else STYLES[0]
        cell = sheets[other][int(row["cell"])]
        drawings.append(None if hidden or not row[other] else {"bytes": _bmp(cell), "path": None})
    return drawings


def _cells(sheet: bytes) -> npt.NDArray[np.uint8]:
    """Cut a sheet into its cells, (cells, 32, 32, 3), row by row."""
    pixels = np.asarray(PILImage.open(io.BytesIO(sheet)).convert("RGB"))
    rows = pixels.shape[0] // _CELL
    grid = pixels.reshape(rows, _CELL, _COLUMNS, _CELL, 3).swapaxes(1, 2)
    cells: npt.NDArray[np.uint8] = grid.reshape(rows * _COLUMNS, _CELL, _CELL, 3)
    return cells


def _bmp(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Store uncompressed: fast both ways, and the same bytes whatever the compression library."""
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()
