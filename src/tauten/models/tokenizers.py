"""Tokenizers of the built-in text tower, and how any tokenizer is saved and found again."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

FILE = "tokenizer.json"
PADDING, UNKNOWN = 0, 1
_WORD = re.compile(r"\w+|[^\w\s]")

Level = Literal["words", "ngrams"]


class Tokenizer(Protocol):
    """Texts to padded ids."""

    @property
    def vocabulary_size(self) -> int:
        """Number of ids."""
        ...

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``attention_mask``, both (N, L) long."""
        ...

    def save(self, folder: Path) -> None:
        """Write what ``load_tokenizer`` needs."""
        ...


def words(text: str) -> list[str]:
    """Split text into lower-case words and punctuation marks."""
    return _WORD.findall(text.lower())


def ngrams(text: str, shortest: int = 2, longest: int = 4) -> list[str]:
    """Return the words between ``<`` and ``>``, and their character n-grams.

    >>> ngrams("a cat", 3, 3)
    ['<a>', '<cat>', '<ca', 'cat', 'at>']
    """
    pieces: list[str] = []
    for word in words(text):
        marked = f"<{word}>"
        pieces.append(marked)
        pieces += [
            marked[start : start + n]
            for n in range(shortest, longest + 1)
            for start in range(len(marked) - n + 1)
            if n < len(marked)
        ]
    return pieces


class BagTokenizer:
    """Words or character n-grams with a vocabulary made of the training texts.

    Id 0 is padding, id 1 stands for a text without any known token.

    Args:
        vocabulary: the tokens, ids 2, 3, ... in this order.
        level: ``"words"``, or ``"ngrams"`` (2 to 4 characters within words, and the words), which
            gives words that were never seen a meaning by their parts.
        max_length: tokens kept per text.
    """

    def __init__(
        self, vocabulary: Sequence[str], level: Level = "words", max_length: int = 256
    ) -> None:
        if level not in ("words", "ngrams"):
            raise ValueError(f'level must be "words" or "ngrams", got {level!r}')
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1 token, got {max_length}")
        self.vocabulary = list(vocabulary)
        self.level: Level = level
        self.max_length = max_length
        self._ids = {token: i + 2 for i, token in enumerate(self.vocabulary)}
        if len(self._ids) != len(self.vocabulary):
            raise ValueError("the vocabulary has a token twice")

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        level: Level = "words",
        max_size: int = 50_000,
        max_length: int = 256,
    ) -> BagTokenizer:
        """Fit the vocabulary: the ``max_size`` most frequent tokens, ties in alphabetical order."""
        split = words if level == "words" else ngrams
        seen = Counter(token for text in texts for token in split(text))
        if not seen:
            raise ValueError("no token in any text: a vocabulary needs at least one caption")
        ranked = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
        return cls([token for token, _ in ranked[:max_size]], level, max_length)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, the two special ones included."""
        return len(self.vocabulary) + 2

    def encode(self, text: str) -> list[int]:
        """Return ids of the known tokens; ``[1]`` if there is none."""
        split = words if self.level == "words" else ngrams
        known = [self._ids[token] for token in split(text) if token in self._ids]
        return known[: self.max_length] or [UNKNOWN]

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return ``input_ids`` (N, L), padded with 0, and ``attention_mask`` (N, L)."""
        rows = [torch.tensor(self.encode(text)) for text in texts]
        input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
        return {"input_ids": input_ids, "attention_mask": (input_ids != PADDING).long()}

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        state: dict[str, Any] = {
            "kind": "bag",
            "level": self.level,
            "max_length": self.max_length,
            "vocabulary": self.vocabulary,
        }
        (folder / FILE).write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer saved in this folder, a built-in or a Hugging Face one.

    Raises:
        ValueError: the folder holds neither.
    """
    path = folder / FILE
    if path.is_file():
        state = json.loads(path.read_text(encoding="utf-8"))
        if state.get("kind") == "bag":
            return BagTokenizer(state["vocabulary"], state["level"], state["max_length"])
    from tauten.models.hf_tokenizer import HFTokenizer

    return HFTokenizer.load(folder)
