"""Parts of a batch that workers of a loader make before its step, where nothing is random."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils.data import get_worker_info

#: from texts to what a tokenizer gives of them
Tokens = Callable[[list[str]], Any]


@dataclass(frozen=True)
class TokensAhead:
    """Tokens of all texts that a batch may show, of which its step draws some.

    Attributes:
        rows: of each text.
        tokens: a tokenizer's output for them.
        least: tokens that any text is padded to.
    """

    rows: Mapping[str, int]
    tokens: Mapping[str, Tensor]
    least: int

    def of(self, texts: Sequence[str]) -> dict[str, Tensor] | None:
        """Return what the tokenizer gives of these texts; None where one of them is not there."""
        rows = [self.rows.get(text, -1) for text in texts]
        if not rows or min(rows) < 0:
            return None
        lengths = self.tokens["attention_mask"].sum(1)[rows]
        width = max(int(lengths.max()), self.least)
        return {name: part[rows, :width] for name, part in self.tokens.items()}


def tokens_ahead(texts: Iterable[str], tokenizer: Tokens) -> TokensAhead | None:
    """Return the tokens of these texts in a worker, and None in the process that trains.

    Args:
        texts: those that a batch may show; equal ones are tokenised once.
        tokenizer: pads on the right and marks what is no padding.
    """
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    if get_worker_info() is None or not rows:
        return None
    tokens = tokenizer(list(rows))
    if not isinstance(tokens, Mapping):
        return None
    return TokensAhead(rows, tokens, tokenizer([""])["input_ids"].shape[1])


@dataclass(frozen=True)
class Reading:
    """Parts of a batch that were read before its step.

    Attributes:
        pictures: of the samples, or their first texts; or a future of their clips and, by place in
            the batch, what is wrong with those that could not be read.
        tokens: of the texts that may be drawn; None where they are tokenised in the step.
    """

    pictures: Any
    tokens: TokensAhead | None = None

    def pin_memory(self) -> Reading:
        """Return the same in memory from which a GPU reads without waiting."""
        made: Reading = in_pinned_memory(self)
        return made


def in_pinned_memory(part: Any) -> Any:
    """Return a part of a batch with its tensors in pinned memory."""
    if isinstance(part, Tensor):
        return part.pin_memory()
    if isinstance(part, dict):
        return {name: in_pinned_memory(value) for name, value in part.items()}
    if isinstance(part, tuple | list):
        return type(part)(in_pinned_memory(value) for value in part)
    if is_dataclass(part) and not isinstance(part, type):
        values = {each.name: getattr(part, each.name) for each in fields(part)}
        return replace(part, **{name: in_pinned_memory(value) for name, value in values.items()})
    return part
