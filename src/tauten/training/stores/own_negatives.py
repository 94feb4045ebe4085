"""Hard negatives of each sample's own: texts that are wrong for it, from a column of the data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.models.tokenizers import Tokenizer
from tauten.structure.cells import counted, missing, texts_of
from tauten.training.stores.ahead import Tokens

logger = logging.getLogger("tauten.training")


def negatives_of(
    cells: Sequence[Any], captions: Sequence[Sequence[str]], column: str, place: str
) -> list[list[str]]:
    """Return the own negatives of each sample, equal ones once, in their order.

    Blank texts are left out, and so is a text that is a caption of the sample; the log counts the
    latter, and the samples that have none.

    Args:
        cells: a text, several or none for each sample.
        captions: of each sample.
        column: their name, for messages.
        place: of the data, for messages.

    Raises:
        ValueError: cells that hold no texts, or no sample with a negative.
    """
    negatives, right = [], 0
    for row, (cell, texts_of_row) in enumerate(zip(cells, captions, strict=True)):
        texts = [] if missing(cell) else texts_of(cell) if isinstance(cell, str | list) else [cell]
        odd = next((t for t in texts if not isinstance(t, str) and not missing(t)), None)
        if odd is not None:
            raise ValueError(
                f"data.negatives={column} of {place} holds a value of type {type(odd).__name__} in "
                f"sample {row}: a cell is a text or a list of texts"
            )
        wrong = dict.fromkeys(text for text in texts if not missing(text))
        right += len(wrong.keys() & set(texts_of_row))
        negatives.append([text for text in wrong if text not in texts_of_row])
    bare = sum(not texts for texts in negatives)
    if bare == len(negatives):
        raise ValueError(
            f"no sample of {place} has a text in the column data.negatives={column}: leave the "
            "option out, or name another column"
        )
    if right:
        logger.warning(
            "%s: left out of the negatives: %s of the column %r that their sample has as caption",
            place,
            counted(right, "text"),
            column,
        )
    logger.info(
        "%s: %s of %s%s",
        place,
        counted(sum(map(len, negatives)), "own negative"),
        counted(len(negatives) - bare, "sample"),
        f"; {counted(bare, 'has', 'have')} none" if bare else "",
    )
    return negatives


def all_texts(cells: Sequence[Any]) -> list[str]:
    """Return the texts of all these cells."""
    return [t for cell in cells if not missing(cell) for t in texts_of(cell) if not missing(t)]


class OwnTexts:
    """Tokens of the own negatives of the samples of a batch.

    Args:
        texts: of each sample, perhaps none.
        tokenizer: texts to ids.
        drawn: at most so many of each sample, drawn from torch's global generator; 0 for all.
    """

    def __init__(self, texts: Sequence[list[str]], tokenizer: Tokenizer, drawn: int = 0) -> None:
        self.texts = texts
        self.tokenizer = tokenizer
        self.drawn = drawn

    def batch(self, index: Tensor, tokens: Tokens | None = None) -> dict[str, Any]:
        """Return what the module takes of these samples; nothing where none has a negative.

        Args:
            index: (N,) long.
            tokens: of texts, as the tokenizer gives them; None for the tokenizer.

        Returns:
            negatives: a tokenizer's output of all T texts of the batch; negative_rows: (N, K) long,
            which of them are those of each sample, -1 where it has fewer than K.
        """
        rows = [self._of(i) for i in index.tolist()]
        width = max(map(len, rows), default=0)
        if not width:
            return {}
        return {
            "negatives": (tokens or self.tokenizer)([text for texts in rows for text in texts]),
            "negative_rows": places_of(rows),
        }

    def _of(self, i: int) -> list[str]:
        texts = self.texts[i]
        if not 0 < self.drawn < len(texts):
            return texts
        return [texts[place] for place in torch.randperm(len(texts))[: self.drawn].tolist()]


def places_of(rows: Sequence[Sequence[Any]]) -> Tensor:
    """Return (N, K) long, the positions of each row's items in all of them, -1 to fill up."""
    width = max(map(len, rows))
    places = torch.full((len(rows), width), -1)
    start = 0
    for row, items in enumerate(rows):
        places[row, : len(items)] = torch.arange(start, start + len(items))
        start += len(items)
    return places
