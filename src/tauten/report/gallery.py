"""Queries and what every run finds for them: some drawn by chance, and those a reader browses."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from tauten.outcome import ALL
from tauten.report.files import read_arrays
from tauten.report.numbers import Numbers
from tauten.report.runs import Array, Run

TOP = 5
SIDE = 96
TRAINING = "train_images.npz"


@dataclass(frozen=True)
class Shown:
    """One candidate; its picture's source is "" where there is no picture."""

    source: str
    right: bool
    alt: str
    name: str


@dataclass(frozen=True)
class Answer:
    """One run's first candidates for a query, and the rank of the best right one; 0 without any."""

    run: str
    images: Sequence[Shown]
    rank: int
    what: str

    @property
    def first(self) -> str:
        """Rank of the best right answer, as text."""
        return f"{self.what}: rank {self.rank:,}" if self.rank else f"{self.what}: none"


@dataclass(frozen=True)
class Query:
    """A caption or class, its group, the image that belongs to it, and what every run finds."""

    caption: str
    group: str
    target: Shown
    answers: Sequence[Answer]


class Pictures:
    """Pictures of queries and candidates, as far as they were given or recorded.

    Args:
        numbers: The runs.
        images: (n, H, W, 3) uint8 test images, in the order of x or of the features.

    Raises:
        ValueError: training images that do not fit the features.
    """

    def __init__(self, numbers: Numbers, images: Array | None) -> None:
        self.images = images
        self._trained = {run.name: _trained(run) for run in numbers.runs if run.task == "views"}

    def query(self, way: str, i: int, right: Sequence[int]) -> Array | None:
        """Return the picture that belongs to a query: its own, or that of its first image."""
        if self.images is None or (way == "y2x" and not len(right)):
            return None
        picture: Array = self.images[right[0] if way == "y2x" else i]
        return picture

    def candidate(self, run: Run, way: str, j: int) -> Array | None:
        """Return the picture of a candidate."""
        images = {"y2x": self.images, "x2y": None}.get(way, self._trained.get(run.name))
        return None if images is None else images[j]


def draw(names: Sequence[str], groups: Sequence[str], per_group: int, seed: int) -> list[int]:
    """Draw places without replacement from each group, by a fixed seed; not by the outcome.

    Args:
        names: Group of each place.
        groups: To draw from; without any all places are one group.
        per_group: Places of each group, at most.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for group in groups or [ALL]:
        members = [j for j, name in enumerate(names) if group in (name, ALL)]
        chosen += rng.permutation(members)[:per_group].astype(int).tolist()
    return chosen


def gallery(numbers: Numbers, images: Array | None, per_group: int, seed: int) -> list[Query]:
    """Return queries drawn from each group, and the answers of every run's first seed.

    Args:
        numbers: The runs.
        images: (n, H, W, 3) uint8 test images, or None.
        per_group: Queries per group.
        seed: Seed of their choice, which does not look at the outcome.
    """
    way = [*numbers.directions][-1]
    first, pictures = numbers.runs[0].first, Pictures(numbers, images)
    side, search = first.outcome.sides[way], first.searches[way]
    rows = torch.tensor(draw(side.groups, numbers.by_count, per_group, seed))
    answers = [_answers(run, numbers.label(run), way, rows, pictures) for run in numbers.runs]
    queries = []
    for i, answer_row in zip(rows.tolist(), zip(*answers, strict=True), strict=True):
        text = search.texts[i]
        what = f"test image of {text}" if not way else f"the image that belongs to: {text}"
        target = pictures.query(way, i, () if search.matches is None else search.matches[i])
        shown = Shown(data_uri(target), True, what, text)
        queries.append(Query(text, side.groups[i] or ALL, shown, answer_row))
    return queries


def _answers(
    run: Run, label: str, way: str, rows: torch.Tensor, pictures: Pictures
) -> list[Answer]:
    """Return what the first seed of a run finds for each query."""
    search, ranks = run.first.searches[way], run.first.outcome.sides[way].ranks
    places, right, best = search.first(rows, TOP)
    best = best if ranks is None else ranks.best[rows]
    what = "right image" if way else "first of its class"
    answers = []
    for place, ok, rank in zip(places.tolist(), right.tolist(), best.tolist(), strict=True):
        shown = [
            Shown(
                data_uri(pictures.candidate(run, way, j)),
                hit,
                f"rank {k}, {'right' if hit else 'wrong'}: {search.names[j]}",
                search.names[j],
            )
            for k, (j, hit) in enumerate(zip(place, ok, strict=True), start=1)
        ]
        answers.append(Answer(label, shown, int(rank), what))
    return answers


def _trained(run: Run) -> Array | None:
    path = run.first.path / TRAINING
    if not path.exists():
        return None
    images: Array = read_arrays(path, ["images"])["images"]
    n = len(run.first.test["train"])
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[::3] != (n, 3):
        raise ValueError(
            f"{path} must hold images, uint8 ({n}, H, W, 3), not {images.dtype} {images.shape}"
        )
    return images


def data_uri(pixels: Array | None) -> str:
    """Encode an (H, W, 3) uint8 image as a data URI: PNG if small, else a JPEG of 96 pixels."""
    if pixels is None:
        return ""
    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if max(picture.size) <= SIDE:
        picture.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        picture.save(buffer, "JPEG", quality=85)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
