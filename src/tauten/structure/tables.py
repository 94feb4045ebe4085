"""Rows of a table on disk: parquet, csv, tsv, json, jsonl, txt, each but parquet also gzipped."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tauten.structure.extras import require

TABLE_SUFFIXES = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".txt")


def table_kind(path: Path) -> str | None:
    """Suffix that tells how to read the file (".csv" for "a.csv.gz"), or None if it is no table."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        suffix = Path(path.stem).suffix.lower()
        return suffix if suffix in TABLE_SUFFIXES and suffix != ".parquet" else None
    return suffix if suffix in TABLE_SUFFIXES else None


def read_rows(
    path: Path, text: Iterable[str] = (), bare: str | None = None
) -> list[dict[str, Any]]:
    """Read a table as one dict per row.

    Args:
        path: the file; its suffix tells the format.
        text: columns of a csv that are text even where they look like numbers.
        bare: column name for rows that are a mere text: the lines of a .txt, strings in a json
            list. Without it such rows are refused.

    Returns:
        The rows. Cells a row lacks are missing from its dict (json) or None (parquet).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unknown suffix, or a file that does not parse, with its name and where it
            breaks.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    kind = table_kind(path)
    if kind is None or (kind == ".txt" and bare is None):
        raise ValueError(f"{path}: not a table; expected one of {', '.join(TABLE_SUFFIXES)}")
    if kind == ".parquet":
        return _read_parquet(path)
    if kind in (".csv", ".tsv"):
        return _read_csv(path, "\t" if kind == ".tsv" else ",", text)
    content = _read_text(path)
    if kind == ".txt":
        assert bare is not None
        return [{bare: line} for line in content.removesuffix("\n").split("\n") if content]
    if kind == ".jsonl":
        lines = [(n, line) for n, line in enumerate(content.split("\n"), 1) if line.strip()]
        return [_as_row(_parse(line, f"{path}:{n}"), f"{path}:{n}", bare) for n, line in lines]
    rows = _parse(content, str(path))
    if not isinstance(rows, list):
        found = (
            f"an object with the keys {sorted(rows)[:10]}" if isinstance(rows, dict) else repr(rows)
        )
        raise ValueError(f"{path}: expected a list with one object per row, found {found}")
    return [_as_row(row, f"{path}, row {n}", bare) for n, row in enumerate(rows)]


def column_names(rows: Iterable[dict[str, Any]]) -> list[str]:
    """All column names in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    pa, pq = require("pyarrow"), require("pyarrow.parquet")
    try:
        rows: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a readable parquet file: {error}") from error
    return rows


def _read_csv(path: Path, delimiter: str, text: Iterable[str]) -> list[dict[str, Any]]:
    pa, csv = require("pyarrow"), require("pyarrow.csv")
    try:
        table = csv.read_csv(
            path,
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types={name: pa.string() for name in text}),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a readable csv file: {error}") from error
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix.lower() == ".gz" else data
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _parse(content: str, where: str) -> Any:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON: {error}") from error


def _as_row(value: Any, where: str, bare: str | None) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, str) and bare is not None:
        return {bare: value}
    raise ValueError(f"{where}: expected an object, found {type(value).__name__}")
