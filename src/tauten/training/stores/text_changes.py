"""Random changes of texts in training, which make two views of one text."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TextChanges:
    """Changes of a text by words, drawn from torch's global generator.

    First a span is taken, then words are left out, then words are said twice.

    Attributes:
        span: shortest and longest share of the words that a span has; (1, 1) for the whole text
            (Contriever: 0.1 to 0.5).
        left_out: probability that a word is left out; one word stays (Contriever: 0.1).
        repeated: largest share of the words that are said twice; how many is drawn from 0 to that
            share, 2 at least (ESimCSE: 0.32).
    """

    span: tuple[float, float] = (1.0, 1.0)
    left_out: float = 0.0
    repeated: float = 0.0

    def __bool__(self) -> bool:
        return self.span != (1.0, 1.0) or self.left_out > 0 or self.repeated > 0

    def __call__(self, text: str) -> str:
        """Return the text with words changed; a text without words stays as it is."""
        words = text.split()
        if not self or not words:
            return text
        low, high = self.span
        if self.span != (1.0, 1.0):
            share, place = torch.rand(2, dtype=torch.float64).tolist()
            length = max(1, round((low + share * (high - low)) * len(words)))
            start = int(place * (len(words) - length + 1))
            words = words[start : start + length]
        if self.left_out > 0:
            stays = (torch.rand(len(words)) >= self.left_out).tolist()
            stays[int(torch.randint(len(words), ()))] |= not any(stays)
            words = [word for word, stay in zip(words, stays, strict=True) if stay]
        if self.repeated > 0:
            most = min(len(words), max(2, int(self.repeated * len(words))))
            count = int(torch.randint(most + 1, ()))
            twice = set(torch.randperm(len(words))[:count].tolist())
            words = [word for i, word in enumerate(words) for _ in range(1 + (i in twice))]
        return " ".join(words)
