"""Cells of captions: the texts that they hold, and what is wrong with those that cannot be used."""

from __future__ import annotations

from typing import Any

from tauten.data.sources import Sample
from tauten.structure.cells import missing, text_problem

#: column with the positions in the source, where some were skipped
FILE_ROW = "file_row"

_RESERVED = ("index", "image", "caption", FILE_ROW)


def is_number(cell: Any) -> bool:
    """Return whether a cell holds a number that is there."""
    return isinstance(cell, int | float) and not isinstance(cell, bool) and not missing(cell)


def take_caption(sample: Sample, name: str, needed: bool = True) -> None:
    """Move the caption to fields["caption"]; note why if there is none and it is needed."""
    value = sample.fields.pop(name, None)
    if name == "caption" and "txt" in sample.fields:
        text = sample.fields["txt"]
        value = text if missing(value) else value
        if text == value:
            del sample.fields["txt"]
    for taken in _RESERVED:
        if taken in sample.fields:
            sample.fields[free_name(taken)] = sample.fields.pop(taken)
    texts, problem = _texts(value)
    if problem == "no caption" and not needed:
        value, problem = [], None
    sample.problem = sample.problem or problem
    sample.fields["caption"] = texts if isinstance(value, list) else "".join(texts)


def free_name(column: str) -> str:
    """Return the name under which a column is kept."""
    return f"source_{column}" if column in _RESERVED else column


def _texts(value: Any) -> tuple[list[str], str | None]:
    """Return all captions of a cell, blank ones left out, and what is wrong with it."""
    texts = []
    for cell in value if isinstance(value, list) else [value]:
        if missing(cell):
            continue
        if isinstance(cell, bytes):
            try:
                cell = cell.decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                return [], f"unreadable caption: {error}"
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            return [], f"the caption is of type {type(cell).__name__}, not text"
        problem = text_problem(cell) if isinstance(cell, str) else None
        if problem is not None:
            return [], problem
        texts.append(str(cell))
    return texts, None if texts else "no caption"


def one_text(value: Any) -> tuple[str | None, str | None]:
    """Return the text of a cell that must hold one, and what is wrong with it."""
    texts, problem = _texts(value)
    if problem is not None:
        return None, problem.replace("caption", "first text", 1)
    if len(texts) > 1:
        return None, f"several first texts: {len(texts)} in one cell, give each a row"
    return texts[0], None
