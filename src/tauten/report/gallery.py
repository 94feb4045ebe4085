"""Gallery of retrieved images: five for each of some captions, right and wrong marked."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tauten.outcome import ALL
from tauten.report.numbers import Numbers
from tauten.report.runs import Array, Run, SeedRun

TOP = 5
SIDE = 96


@dataclass(frozen=True)
class Shown:
    """One retrieved image."""

    source: str
    right: bool
    alt: str


@dataclass(frozen=True)
class Answer:
    """One run's first images for a query, and the rank of the best right one; 0 without any."""

    run: str
    images: Sequence[Shown]
    rank: int
    what: str = "right image"

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


def choose(run: SeedRun, groups: Sequence[str], per_group: int, seed: int) -> list[int]:
    """Draw captions without replacement from each group, by a fixed seed; not by the outcome."""
    names = run.groups["y2x"]
    if not any(names):
        return draw([ALL] * len(run.captions), [ALL], per_group, seed)
    return draw(names, groups, per_group, seed)


def draw(names: Sequence[str], groups: Sequence[str], per_group: int, seed: int) -> list[int]:
    """Draw places without replacement from each group.

    Args:
        names: Group of each place.
        groups: To draw from.
        per_group: Places of each group, at most.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for group in groups:
        members = [j for j, name in enumerate(names) if name == group]
        chosen += rng.permutation(members)[:per_group].astype(int).tolist()
    return chosen


def gallery(numbers: Numbers, images: Array, per_group: int, seed: int) -> list[Query]:
    """Return the queries, and the answers of every run's first seed.

    Args:
        numbers: The runs.
        images: (n, H, W, 3) uint8 test images, in the order of x.
        per_group: Captions per group.
        seed: Seed of the choice of captions.
    """
    first = numbers.runs[0].first
    x_of_y: list[list[int]] = [[] for _ in first.captions]
    for i, own in enumerate(first.y_of_x):
        for j in own:
            x_of_y[j].append(i)
    names = first.groups["y2x"] or [ALL] * len(first.captions)
    groups = numbers.by_count
    cache: dict[int, str] = {}

    def source(i: int) -> str:
        return cache.setdefault(i, data_uri(images[i]))

    queries = []
    for j in choose(first, groups, per_group, seed):
        right = x_of_y[j]
        answers = []
        for run in numbers.runs:
            shown = [
                Shown(
                    source(i),
                    i in right,
                    f"rank {rank}, {'right' if i in right else 'wrong'}: {_name(first, i)}",
                )
                for rank, i in enumerate(_top(run, j, right), start=1)
            ]
            answers.append(Answer(numbers.label(run), shown, int(run.first.ranks["y2x"].best[j])))
        target = Shown(source(right[0]), True, f"the image that belongs to: {first.captions[j]}")
        queries.append(Query(first.captions[j], names[j], target, answers))
    return queries


def _top(run: Run, j: int, right: Sequence[int]) -> list[int]:
    """Return the first images for caption j; a wrong one goes first among equals."""
    score = run.first.test["x"].astype(np.float64) @ run.first.test["y"][j].astype(np.float64)
    score[list(right)] -= 1e-6
    order: list[int] = np.argsort(-score, kind="stable")[:TOP].tolist()
    return order


def _name(run: SeedRun, i: int) -> str:
    return run.captions[run.y_of_x[i][0]] if run.y_of_x[i] else f"image {i}"


def data_uri(pixels: Array) -> str:
    """Encode an (H, W, 3) uint8 image as a data URI: PNG if small, else a JPEG of 96 pixels."""
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
