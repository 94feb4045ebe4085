"""Place of a run in the comparison that it is part of."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tauten import files
from tauten.report.runs import Run
from tauten.report.words import signed

PAGE, DIFFERENCES = "comparison.html", "differences.csv"
ROWS = "comparison.json"
"""Rows of the page by variant; earlier comparisons have none, and a link goes to the control."""


@dataclass(frozen=True)
class Place:
    """A cell of a comparison.

    Attributes:
        name: Its control, setting and seeds.
        link: To the control's row on the comparison's page, relative.
        said: Its differences to the comparison's baseline, or "".
    """

    name: str
    link: str
    said: str


def places(run: Run, page: Path) -> list[Place]:
    """Return the cells
    ``<comparison>/cells/<control>/<setting>-seed<k>/run`` that a run's seeds are.

    Args:
        run: The run.
        page: Folder of the page that links.
    """
    cells: dict[tuple[Path, str, str], list[str]] = {}
    for seed in run.seeds:
        folder = seed.path.resolve()
        setting, mark, number = folder.parent.name.rpartition("-seed")
        root, control = folder.parents[3] if len(folder.parents) > 3 else folder, folder.parents[1]
        if folder.name == "run" and mark and control.parent == root / "cells":
            cells.setdefault((root, control.name, setting.partition("-")[0]), []).append(number)
    return [
        _place(root, control, setting, seeds, page)
        for (root, control, setting), seeds in cells.items()
        if (root / PAGE).exists()
    ]


def _place(root: Path, control: str, setting: str, seeds: Sequence[str], page: Path) -> Place:
    what = "seed" if len(seeds) == 1 else "seeds"
    path = Path(os.path.relpath(root / PAGE, page.resolve())).as_posix()
    row = str(_rows(root / ROWS).get(f"{control} ({setting})", control))
    return Place(
        f"{control}, {setting}, {what} {', '.join(seeds)}",
        f"{quote(path)}#{quote(row)}",
        _differences(root / DIFFERENCES, f"{control} ({setting})"),
    )


def _rows(path: Path) -> dict[str, Any]:
    rows = files.read_json(path) if path.exists() else {}
    return rows if isinstance(rows, dict) else {}


def _differences(path: Path, name: str) -> str:
    """Return the differences of a variant to the baseline over all seeds, as text."""
    if not path.exists():
        return ""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    baseline = _control(rows[0]["b"]) if rows else ""
    rows = [row for row in rows if row["metric"] == rows[0]["metric"]]
    against = [row for row in rows if row["a"] == name and _control(row["b"]) == baseline]
    if not against:
        return ""
    said = ", ".join(f"{row['group']} {_points(row)}" for row in against)
    return (
        f"There, over all its seeds, it differs from {against[0]['b']} in {against[0]['metric']} "
        f"by, in points with simultaneous 95 % intervals: {said}."
    )


def _control(variant: str) -> str:
    return variant.rpartition(" (")[0]


def _points(row: Mapping[str, str]) -> str:
    value, low, high = (
        signed(row["metric"], float(row[name]))
        for name in ("value", "corrected_low", "corrected_high")
    )
    return f"{value} ({low} to {high})"
