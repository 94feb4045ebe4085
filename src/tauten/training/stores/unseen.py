"""All captions of training as candidates, without those that a first text has there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

#: first texts, and the captions of each
Pairs = tuple[Sequence[str], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Unseen:
    """Candidates of a recommendation.

    Attributes:
        k: how many are shown.
        texts: all captions of training, and further ones of the split.
        matches: for each sample of the split the positions of its captions.
        seen: for each sample those of the captions that its first text has in training.
    """

    k: int
    texts: list[str]
    matches: list[list[int]]
    seen: list[list[int]]


def unseen(split: Pairs, train: Pairs, k: int) -> Unseen:
    """Return the candidates of a split.

    Args:
        split: its pairs.
        train: those of training.
        k: how many are shown.
    """
    position: dict[str, int] = {}
    of_first: dict[str, set[int]] = defaultdict(set)
    for first, captions in zip(*train, strict=True):
        of_first[first] |= {position.setdefault(text, len(position)) for text in captions}
    matches = [
        [position.setdefault(text, len(position)) for text in dict.fromkeys(captions)]
        for captions in split[1]
    ]
    seen = [
        sorted(of_first.get(first, set()) - set(right))
        for first, right in zip(split[0], matches, strict=True)
    ]
    return Unseen(k, list(position), matches, seen)
