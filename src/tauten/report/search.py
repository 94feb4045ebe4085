"""Searches that a report shows: queries of one direction among their candidates.

Shape suffixes: Q queries, C candidates, d dimensions, b queries of one block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.evaluation.classification import class_numbers

BLOCK = 512
_TIE = 1e-6


@dataclass(frozen=True)
class Search:
    """Queries of one direction, and the candidates they are searched among.

    Attributes:
        queries: (Q, d).
        candidates: (C, d).
        texts: (Q,) of the queries: a caption, a class.
        names: (C,) of the candidates.
        matches: for each query the right candidates; None where those of its class are right.
        classes: (Q,) and (C,) long, classes where these decide.
    """

    queries: Tensor
    candidates: Tensor
    texts: Sequence[str]
    names: Sequence[str]
    matches: Sequence[Sequence[int]] | None
    classes: tuple[Tensor, Tensor] | None = None

    def right(self, rows: Tensor) -> Tensor:
        """Return (b, C) bool, the right candidates of some queries."""
        if self.matches is None:
            assert self.classes is not None
            of_query, of_candidate = self.classes
            return of_query[rows, None] == of_candidate
        relevant = torch.zeros(len(rows), len(self.candidates), dtype=torch.bool)
        for row, i in zip(relevant, rows.tolist(), strict=True):
            row[list(self.matches[i])] = True
        return relevant

    def blocks(self, rows: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (b, C) similarities, and which are right, of all or some queries in turn."""
        for part in (torch.arange(len(self.queries)) if rows is None else rows).split(BLOCK):
            yield self.queries[part] @ self.candidates.T, self.right(part)

    def first(self, rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the first candidates of some queries, a wrong one first among equals.

        Returns:
            (b, count) positions, (b, count) which are right, and (b,) the place of the best right
            candidate, 0 where there is none.
        """
        parts = []
        for score, right in self.blocks(rows):
            score = score.double() - _TIE * right
            place = score.topk(min(count, score.shape[1]), dim=1).indices
            best = score.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
            rank = (score.masked_fill(right, -torch.inf) >= best).sum(dim=1) + 1
            parts.append((place, right.gather(1, place), rank * right.any(dim=1)))
        place, right, rank = (torch.cat(side) for side in zip(*parts, strict=True))
        return place, right, rank


def of_embeddings(
    stored: Mapping[str, Any], y_of_x: Sequence[Sequence[int]], captions: Sequence[str]
) -> dict[str, Search]:
    """Return both directions of pairs, from the arrays of ``embeddings.npz``."""
    x, y = (torch.from_numpy(stored[side]).float() for side in "xy")
    x_of_y: list[list[int]] = [[] for _ in captions]
    for i, matches in enumerate(y_of_x):
        for j in matches:
            x_of_y[j].append(i)
    images = [captions[matches[0]] if matches else f"image {i}" for i, matches in enumerate(y_of_x)]
    return {
        "x2y": Search(x, y, images, captions, y_of_x),
        "y2x": Search(y, x, captions, images, x_of_y),
    }


def of_features(stored: Mapping[str, Any]) -> Search:
    """Return the search of training images by test images, from the arrays of ``features.npz``."""
    names = {split: stored[f"{split}_labels"].tolist() for split in ("train", "test")}
    _, (of_known, of_x) = class_numbers(names["train"], names["train"], names["test"])
    known, x = (F.normalize(torch.from_numpy(stored[side]), dim=1) for side in ("train", "test"))
    return Search(x, known, names["test"], names["train"], None, (of_x, of_known))
