"""Test queries that a reader browses: what every run finds, as data of the page's script.

Pictures are tiles of one sheet, so that a thousand of them stay within a megabyte.
"""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from PIL import Image

from tauten.report.gallery import TOP, Pictures, draw
from tauten.report.markup import printable
from tauten.report.numbers import Numbers
from tauten.report.runs import Array

QUERIES = 1000
"""Queries of each direction that are kept, at most."""
TILES, TILE, COLUMNS = 2500, 48, 50
"""Pictures that are kept, at most, their side in pixels, and how many stand in a row."""


class _Sheet:
    """Pictures put side by side; one that is there already is not put in again."""

    def __init__(self) -> None:
        self.tiles: dict[bytes, int] = {}
        self.pictures: list[Image.Image] = []

    def add(self, pixels: Array | None) -> int:
        """Return the place of a picture; -1 for none."""
        if pixels is None:
            return -1
        content = pixels.tobytes()
        if content not in self.tiles and len(self.tiles) < TILES:
            picture = Image.fromarray(pixels)
            picture.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
            self.tiles[content] = len(self.pictures)
            self.pictures.append(picture)
        return self.tiles.get(content, -1)

    def source(self) -> str:
        """Return the sheet as a data URI, "" without pictures."""
        if not self.pictures:
            return ""
        rows = -(-len(self.pictures) // COLUMNS)
        sheet = Image.new("RGB", (TILE * COLUMNS, TILE * rows), "white")
        for place, picture in enumerate(self.pictures):
            left, top = TILE * (place % COLUMNS), TILE * (place // COLUMNS)
            gap = ((TILE - side) // 2 for side in picture.size)
            sheet.paste(picture, (left + next(gap), top + next(gap)))
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=80)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def browsed(numbers: Numbers, images: Array | None, seed: int) -> tuple[Markup, list[str]]:
    """Return what the script shows as JSON that may stand in HTML, and what was left out.

    Args:
        numbers: The runs.
        images: (n, H, W, 3) uint8 test images, or None.
        seed: Of the choice of queries where there are more than are kept.
    """
    sheet, pictures, notes = _Sheet(), Pictures(numbers, images), []
    ways = []
    for way, name in [*numbers.directions.items()][::-1]:
        rows, queries = _queries(numbers, way, seed), []
        first = numbers.runs[0].first
        total = len(first.outcome.sides[way])
        if len(rows) < total:
            what = name.lower() if way else "test images"
            notes.append(f"{len(rows):,} of {total:,} queries ({what}), drawn by seed {seed}.")
        search, side = first.searches[way], first.outcome.sides[way]
        labels = _classes(numbers, way)
        for i in rows.tolist():
            matches = () if search.matches is None else search.matches[i]
            tile = sheet.add(pictures.query(way, i, matches))
            queries.append([search.texts[i], tile, side.groups[i], labels[i]])
        names: list[list[Any]] = []
        place_of: dict[tuple[str, int], int] = {}
        answers = []
        for run in numbers.runs:
            own_search, ranks = run.first.searches[way], run.first.outcome.sides[way].ranks
            places, right, best = own_search.first(rows, TOP)
            best = best if ranks is None else ranks.best[rows]
            coded = []
            for top, ok in zip(places.tolist(), right.tolist(), strict=True):
                for j, hit in zip(top, ok, strict=True):
                    tile = sheet.add(pictures.candidate(run, way, j))
                    text = own_search.names[j]
                    place = place_of.setdefault((text, tile), len(names))
                    if place == len(names):
                        names.append([text, tile])
                    coded.append(2 * place + hit)
            answers.append({"ranks": best.tolist(), "found": coded, "top": places.shape[1]})
        ways.append(
            {"name": name if way else "", "queries": queries, "names": names, "runs": answers}
        )
    texts = {
        "runs": [numbers.label(run) for run in numbers.runs],
        "sheet": sheet.source(),
        "tile": TILE,
        "columns": COLUMNS,
        "ways": ways,
    }
    text = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
    return Markup(printable(text).replace("<", "\\u003c")), notes


def _queries(numbers: Numbers, way: str, seed: int) -> torch.Tensor:
    """Return the queries that are kept: all, or as many of each group, in their order."""
    side = numbers.runs[0].first.outcome.sides[way]
    if len(side) <= QUERIES:
        return torch.arange(len(side))
    groups = numbers.by_count
    return torch.tensor(sorted(draw(side.groups, groups, QUERIES // max(1, len(groups)), seed)))


def _classes(numbers: Numbers, way: str) -> list[str]:
    """Return the class of each query, "" where it is not known."""
    first = numbers.runs[0].first
    labels = list(first.outcome.first.labels)
    if way != "y2x":
        return labels
    of_y = np.full(len(first.captions), "", dtype=object)
    for i, matches in reversed([*enumerate(first.y_of_x)]):
        of_y[matches] = labels[i]
    return [str(label) for label in of_y]
