"""The tokenizer of a text tower, and whether it tells captions apart."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tauten.models import (
    BagTokenizer,
    HFTokenizer,
    Tokenizer,
)
from tauten.structure.cells import short
from tauten.training.options.config import ModelConfig

logger = logging.getLogger("tauten.training")

#: captions that a tokenizer is tried on
_TRIED = 500


def build_tokenizer(config: ModelConfig, texts: Sequence[str]) -> Tokenizer:
    """Build the tokenizer of the text tower; a built-in one learns its words from these texts."""
    if config.text == "words":
        return BagTokenizer.fit(texts, "words", max_length=config.max_tokens)
    if config.text == "ngrams":
        return BagTokenizer.fit(texts, "ngrams", max_length=config.max_tokens * 8)
    return HFTokenizer.load(config.text, config.max_tokens)


def check_texts(tokenizer: Tokenizer, captions: Sequence[Sequence[str]], name: str) -> None:
    """Refuse a tokenizer to which almost all captions are the same; tell of one that loses many.

    Some hundred captions are tried, one of each sample.

    Args:
        tokenizer: of the text tower.
        captions: of each sample.
        name: of the tokenizer, for messages.

    Raises:
        ValueError: fewer than one in ten differ as tokens.
    """
    every = max(1, len(captions) // _TRIED)
    texts = list(dict.fromkeys(texts_of[0] for texts_of in captions[::every]))
    if len(texts) < 2:
        return
    rows = tokenizer(texts)["input_ids"].tolist()
    first: dict[tuple[int, ...], str] = {}
    equal = [(first.setdefault(tuple(r), text), text) for r, text in zip(rows, texts, strict=True)]
    one, other = next((pair for pair in equal if pair[0] != pair[1]), ("", ""))
    said = (
        f"{name}: {len(texts)} different captions are {len(first)} different rows of tokens; "
        f"{short(one, 60)!r} and {short(other, 60)!r} are the same. Its tokenizer lacks their "
        "words, or model.max_tokens cuts them: save the model's own tokenizer beside it, or take "
        "a model that knows the language"
    )
    if 10 * len(first) < len(texts):
        raise ValueError(said)
    if 2 * len(first) < len(texts):
        logger.warning("%s", said)
