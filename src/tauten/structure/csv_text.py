"""Tables of separated values, whose quotes must make sense."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tauten.structure.cells import short, some
from tauten.structure.extras import require

_BODY = re.compile(rb'[^"]*(?:""[^"]*)*"')
_BLOCK = 1 << 20
_LARGEST = 1 << 30
#: whole numbers and decimals, of which each writing is a value of its own
_NUMBERS = (r"^[+-]?[0-9]+$", r"^[+-]?[0-9]+\.[0-9]+$")

#: writings of a cell without a value; ``null`` may also be a text
_NOTHING, _NOTHING_OF_TEXT = ("NaN", "nan", "null"), ("NaN", "nan")


@dataclass(frozen=True)
class Quotes:
    """The quoted cells of a file.

    Attributes:
        problem: line and reason of the first quote that cannot be the start of a quoted cell.
        lines: cells of several lines, each with the line it begins in.
    """

    problem: tuple[int, str] | None
    lines: list[tuple[int, bytes]]


def find_quotes(content: bytes, delimiter: str) -> Quotes:
    """Go through the cells that begin with a quote."""
    tab = re.escape(delimiter.encode())
    opening, after = re.compile(rb'(?:\A|[\r\n]|%s)"' % tab), re.compile(rb"\Z|[\r\n]|%s" % tab)
    lines: list[tuple[int, bytes]] = []
    position, counted, line = 0, 0, 1
    while (start := opening.search(content, position)) is not None:
        line += content.count(b"\n", counted, start.end())
        counted = start.end()
        body = _BODY.match(content, start.end())
        if body is None:
            return Quotes((line, "opens a cell that never ends"), lines)
        if after.match(content, body.end()) is None:
            end = line + body.group().count(b"\n")
            reason = "opens a cell, and text follows the quote that ends it"
            return Quotes((line, reason + f" in line {end}" * (end > line)), lines)
        if b"\n" in body.group():
            lines.append((line, body.group()[:-1]))
        position = body.end()
    return Quotes(None, lines)


def read_separated(
    path: Path,
    content: bytes,
    delimiter: str,
    text: Iterable[str] = (),
    classes: Iterable[str] = (),
) -> Any:
    """Parse a table of separated values.

    Cells with the delimiter, quotes or several lines are in quotes, and a quote in them is doubled.
    A file that is separated by tabs and does not keep to this is read without quoting, as most
    programs write it; any other one is refused.

    Args:
        path: for messages.
        content: the file, UTF-8.
        delimiter: "," or a tab.
        text: columns that are text even where they look like numbers.
        classes: those of them that are no captions: ``null`` is none of their values.

    Returns:
        A pyarrow table. A cell that is exactly ``NaN`` or ``nan`` is null, and so is ``null`` in a
        column that is not of `text`, or is of `classes`. A column of numbers is text where
        different whole numbers, or different decimals, as they are written, would become one value.

    Raises:
        ValueError: a file that does not parse, with the line; a column name given twice.
    """
    pa, csv = require("pyarrow"), require("pyarrow.csv")
    text = tuple(text)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path} is UTF-16: save it as UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf")
    quotes = find_quotes(content, delimiter)
    plain = delimiter == "\t" and (
        quotes.problem is not None or any(b"\t" in cell for _, cell in quotes.lines)
    )
    if quotes.problem is not None and not plain:
        line, reason = quotes.problem
        raise ValueError(
            f'{path}, line {line}: a quote {reason}: write "" for a quote in a quoted cell, and '
            "put cells that begin with a quote in quotes"
        )

    def parse(**options: Any) -> Any:
        return csv.read_csv(
            pa.BufferReader(content),
            read_options=csv.ReadOptions(block_size=min(max(_BLOCK, len(content) + 1), _LARGEST)),
            parse_options=csv.ParseOptions(
                delimiter=delimiter,
                quote_char=False if plain else '"',
                newlines_in_values=not plain,
            ),
            convert_options=csv.ConvertOptions(**options),
        )

    try:
        table = parse(column_types={name: pa.string() for name in text})
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a readable csv file: {short(str(error))}") from error
    check_names(path, table.column_names)
    if not plain:
        _check_lines(path, quotes, delimiter, table)
    return _without_nothing(_as_written(table, parse), {*text} - {*classes})


def _without_nothing(table: Any, text: Collection[str]) -> Any:
    """Return the table with null for texts that stand for a cell without a value."""
    pa, compute = require("pyarrow"), require("pyarrow.compute")
    for number, name in enumerate(table.column_names):
        if not pa.types.is_string(table[name].type):
            continue
        nothing = pa.array(_NOTHING_OF_TEXT if name in text else _NOTHING)
        gaps = compute.is_in(table[name], value_set=nothing)
        if compute.any(gaps).as_py():
            cells = compute.if_else(gaps, pa.scalar(None, pa.string()), table[name])
            table = table.set_column(number, name, cells)
    return table


def _as_written(table: Any, parse: Callable[..., Any]) -> Any:
    """Return the table with text where two different numbers, as written, became one value.

    ``01`` and ``1`` are two classes, and so are two numbers of 20 digits, and ``3.1`` and ``3.10``,
    which are chapters or versions. ``1`` and ``1.0`` are one number.
    """
    pa, compute = require("pyarrow"), require("pyarrow.compute")
    doubtful = [
        name
        for name in table.column_names
        if pa.types.is_integer(table[name].type) or pa.types.is_floating(table[name].type)
        if compute.count_distinct(table[name]).as_py() < len(table) - table[name].null_count
    ]
    if not doubtful:
        return table
    written = parse(
        include_columns=doubtful,
        column_types={name: pa.string() for name in doubtful},
        strings_can_be_null=True,
    )
    for name in doubtful:
        texts = written[name].combine_chunks()
        for kind in _NUMBERS:
            alike = compute.fill_null(compute.match_substring_regex(texts, kind), False)
            values = compute.count_distinct(table[name].combine_chunks().filter(alike))
            if values.as_py() < compute.count_distinct(texts.filter(alike)).as_py():
                table = table.set_column(table.column_names.index(name), name, texts)
                break
    return table


def check_names(path: Path, names: list[str]) -> None:
    """Refuse a table in which a column name stands twice.

    Raises:
        ValueError: naming the column.
    """
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: the column name {some(map(repr, twice))} is there twice")


def _check_lines(path: Path, quotes: Quotes, delimiter: str, table: Any) -> None:
    """Refuse a quoted cell that has swallowed rows: lines in it look like rows of their own."""
    if not quotes.lines:
        return
    kinds = {_kind(str(cell)) for cell in table.column(0).to_pylist()} - {""}
    for line, cell in quotes.lines:
        for number, row in enumerate(cell.split(b"\n")[1:], 1):
            parts = row.decode("utf-8", "replace").split(delimiter)
            if len(parts) == table.num_columns and _kind(parts[0]) in kinds:
                raise ValueError(
                    f"{path}, line {line}: a quote opens a cell that holds line {line + number}, "
                    f"{short(row.decode('utf-8', 'replace').strip(), 80)!r}, which looks like a "
                    'row: write "" for a quote, or close the cell'
                )


def _kind(cell: str) -> str:
    """Return the extension of a file name, "#" for a number, else nothing."""
    return "#" if cell.isdigit() else PurePosixPath(cell).suffix.lower()
