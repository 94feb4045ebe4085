"""Rows of a table on disk: parquet, csv, tsv, json, jsonl, txt, each but parquet also gzipped."""

import gzip
import json
import logging
import zlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tauten.structure.cells import counted, short, some
from tauten.structure.csv_text import check_names, read_separated
from tauten.structure.extras import require

logger = logging.getLogger("tauten.data")

#: bytes in which the names of columns must end
_HEADER = 1000
TABLE_SUFFIXES = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".txt")


def table_kind(path: Path) -> str | None:
    """Return the suffix that tells how to read the file (".csv" for "a.csv.gz"),
    or None if it is no table.
    """
    suffix = path.suffix.lower()
    if suffix == ".gz":
        suffix = Path(path.stem).suffix.lower()
        return suffix if suffix in TABLE_SUFFIXES and suffix != ".parquet" else None
    return suffix if suffix in TABLE_SUFFIXES else None


def headed(path: Path, *names: str) -> str | None:
    """Return what separates the cells of a .txt that is a table, as Flickr8k's captions.txt is.

    Args:
        path: path of the file.
        names: names of columns. The first line of a table has two or more of these, or of "image",
            "file_name" and "caption".

    Returns:
        "," or a tab; None where it is no table.
    """
    if table_kind(path) != ".txt" or not path.is_file():
        return None
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as file:
            line = file.readline(_HEADER).decode("utf-8-sig").strip()
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error):
        return None
    known = {"image", "file_name", "caption", *names}
    for delimiter in (",", "\t"):
        cells = [cell.strip('"') for cell in line.split(delimiter)]
        if len(known & {*cells}) > 1 and len({*cells}) == len(cells):
            return delimiter
    return None


def read_rows(
    path: Path, text: Iterable[str] = (), bare: str | None = None, classes: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Read a table as one dict per row.

    Args:
        path: the file; its suffix tells the format.
        text: columns of a csv that are text even where they look like numbers.
        bare: column name for rows that are a mere text: the lines of a .txt, strings in a json
            list. Without it such rows are refused. A .txt that is :func:`headed` is a table.
        classes: those columns of `text` that are no captions: ``null`` in a csv is none of them.

    A json object with "images" and "annotations" as MSCOCO writes captions gives one row for each
    image, with the columns file_name, caption (a list) and id; the log counts annotations that no
    image has.

    Returns:
        The rows. Cells a row lacks are missing from its dict (json) or None (parquet).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a folder, unknown suffix, or a file that does not parse, with its name and where
            it breaks.
    """
    if path.is_dir():
        tables = [name for name in sorted(path.iterdir()) if table_kind(name) and name.is_file()]
        raise ValueError(
            f"{path} is a folder, a table is needed ({', '.join(TABLE_SUFFIXES)}): "
            + (
                f"give one of its files: {some([table.name for table in tables], 3)}"
                if tables
                else "it holds none"
            )
        )
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    text = tuple(text)
    kind = table_kind(path)
    if kind == ".txt" and (delimiter := headed(path, *text)) is not None:
        return list(read_separated(path, read_bytes(path), delimiter, text, classes).to_pylist())
    if kind is None or (kind == ".txt" and bare is None):
        raise ValueError(f"{path}: not a table; expected one of {', '.join(TABLE_SUFFIXES)}")
    if kind == ".parquet":
        return _read_parquet(path)
    if kind in (".csv", ".tsv"):
        rows: list[dict[str, Any]] = read_separated(
            path, read_bytes(path), "\t" if kind == ".tsv" else ",", text, classes
        ).to_pylist()
        return rows
    content = _read_text(path)
    if kind == ".txt":
        assert bare is not None
        return [{bare: line} for line in content.removesuffix("\n").split("\n") if content]
    if kind == ".jsonl":
        lines = [(n, line) for n, line in enumerate(content.split("\n"), 1) if line.strip()]
        return [_as_row(parse_json(line, f"{path}:{n}"), f"{path}:{n}", bare) for n, line in lines]
    value = parse_json(content, str(path))
    if isinstance(value, dict) and {"images", "annotations"} <= value.keys():
        value = _read_coco(value, path) or value
    if not isinstance(value, list):
        table = (
            f"an object with the keys {sorted(value)[:10]}"
            if isinstance(value, dict)
            else short(repr(value), 80)
        )
        raise ValueError(f"{path}: expected a list with one object per row, found {table}")
    return [_as_row(row, f"{path}, row {n}", bare) for n, row in enumerate(value)]


def column_names(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return all column names in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def parse_json(content: str | bytes, where: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: content that does not parse, or is nested too deeply, with `where`.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError(f"{where}: not valid JSON: brackets are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON: {error}") from error


def read_bytes(path: Path) -> bytes:
    """Read a file, unpacked if its name ends with .gz.

    Raises:
        ValueError: a damaged gzip file.
    """
    data = path.read_bytes()
    try:
        return gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as gzip: {error}") from error


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    pa, pq = require("pyarrow"), require("pyarrow.parquet")
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a readable parquet file: {short(str(error))}") from error
    check_names(path, table.column_names)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _read_coco(content: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Read rows of images with their captions; none where the annotations have no captions."""
    captions: dict[Any, list[Any]] = defaultdict(list)
    bare = 0
    try:
        for annotation in content["annotations"]:
            if "caption" in annotation:
                captions[annotation["image_id"]].append(annotation["caption"])
            else:
                bare += 1
        known = {image["id"] for image in content["images"]}
        lost = {name: texts for name, texts in captions.items() if name not in known}
        rows = [
            {"file_name": image["file_name"], "caption": captions[image["id"]], "id": image["id"]}
            for image in content["images"]
            if captions
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: images need id and file_name, annotations image_id and caption: "
            f"{type(error).__name__} {error}"
        ) from error
    if rows:
        _say_lost(path, lost, bare)
    return rows


def _say_lost(path: Path, lost: dict[Any, list[Any]], bare: int) -> None:
    """Count the annotations of which no row is made in a line of the log."""
    said = []
    if lost:
        number = counted(sum(map(len, lost.values())), "annotation")
        said.append(f"{number} without a picture (image_id {some(lost, 3)})")
    if bare:
        said.append(f"{counted(bare, 'annotation')} without a caption")
    if said:
        logger.warning("left out in %s: %s", path, "; ".join(said))


def _read_text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _as_row(value: Any, where: str, bare: str | None) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, str) and bare is not None:
        return {bare: value}
    raise ValueError(f"{where}: expected an object, found {type(value).__name__}")
