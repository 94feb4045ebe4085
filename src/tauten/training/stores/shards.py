"""Training batches of pairs that stay in shards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.data.problems import Skipped
from tauten.data.shard_pairs import ShardPairs
from tauten.structure.cells import texts_of
from tauten.training.stores.ahead import Tokens, TokensAhead, tokens_ahead
from tauten.training.stores.drawn import DrawnText
from tauten.training.stores.shard_reads import ShardReading, ShardReads


class ShardStore:
    """A store of batches by sample id.

    Everything random (which caption, alternative text, keywords) is drawn from torch's global
    generator at the moment of the call, four numbers a sample whether it can be used or not, so a
    restored generator repeats the batch.

    Args:
        pairs: pictures with an `image_size`.
        tokenizer: texts to ids.
        alternative: probability of the column `alt_caption` instead of the caption.
        keywords: probability that a random half of the column `keywords` is added to the caption.
        strict: raise at the first sample that cannot be used.
        captions: (N,) long, how many captions each sample has, where they have ids of their own.
        buffer: samples that are shuffled with each other.
        workers: processes that read ahead.

    Attributes:
        skipped: samples that could not be used, counted each time.

    Raises:
        ValueError: pairs without pictures of one size; a probability outside [0, 1].
    """

    def __init__(
        self,
        pairs: ShardPairs,
        tokenizer: Tokens,
        *,
        alternative: float = 0.0,
        keywords: float = 0.0,
        strict: bool = False,
        captions: Tensor | None = None,
        buffer: int = 8192,
        workers: int = 0,
    ) -> None:
        if pairs.image_size is None or not pairs.pictures:
            raise ValueError("a training batch needs pictures of one size: give image_size=")
        self.pairs = pairs
        self.tokenizer = tokenizer
        self._text = DrawnText(alternative, keywords)
        self.strict = strict
        self.skipped: Skipped | None = Skipped()
        self.buffer = buffer
        self.workers = workers
        self._captions = captions
        self._first = None if captions is None else captions.cumsum(0) - captions

    def __len__(self) -> int:
        return len(self.pairs)

    def reads(self, seed: int) -> ShardReads:
        """Return what the loader reads: whole batches, before the step, where nothing is drawn."""
        return ShardReads(self.pairs, self.read, seed, self.buffer, self.workers)

    def read(self, ids: list[int], epoch: int = 0) -> ShardReading:
        """Return what follows from the ids alone: pixels, their ids and, in a worker, tokens."""
        columns, problems = self.pairs.batch(ids)
        images = [_id(image.numpy().tobytes()) for image in columns["image"]]
        return ShardReading(
            (columns, problems), torch.tensor(images, dtype=torch.int64), self._ahead(columns)
        )

    def _ahead(self, columns: Mapping[str, Sequence[Any]]) -> TokensAhead | None:
        """Return tokens of all texts that may be drawn; keywords make too many."""
        if self._text.keywords > 0:
            return None
        texts = [text for cell in columns["caption"] for text in texts_of(cell)]
        if self._text.alternative > 0:
            texts += [text for text in columns.get("alt_caption", ()) if text]
        return tokens_ahead(texts, self.tokenizer)

    def batch(self, index: Tensor, reading: ShardReading | None = None) -> dict[str, Any]:
        """Return images, texts, ids and duplicate ids of the usable ones of these samples.

        Args:
            index: (N,) long.
            reading: what was read of them before; None to read them now.

        Returns:
            images (n, 3, H, W) uint8, texts (the tokenizer's output), index (n,), same (image ids,
            caption ids), each (n,) long: equal for equal pixels or captions on all processes. Where
            captions have ids of their own also caption, (n,) long. n is N less the samples that
            cannot be used.

        Raises:
            ValueError: with `strict`, a sample that cannot be used.
        """
        draws_N4 = torch.rand(len(index), 4)
        reading = self.read(index.tolist()) if reading is None else reading
        columns, problems = reading.found
        if problems and self.strict:
            raise ValueError(str(problems[0]))
        assert self.skipped is not None
        self.skipped.add(problems)
        captions, texts, places = [], [], []
        usable = torch.isin(index, columns["index"])
        for row, draws in enumerate(draws_N4[usable].tolist()):
            options = texts_of(columns["caption"][row])
            places.append(int(draws[0] * len(options)))
            captions.append(options[places[-1]])
            alternative, words = (
                columns[name][row] if name in columns else None
                for name in ("alt_caption", "keywords")
            )
            texts.append(self._text(captions[-1], alternative, texts_of(words), draws[1:]))
        caption_ids = torch.tensor([_id(text.encode()) for text in captions], dtype=torch.int64)
        ahead = None if reading.tokens is None else reading.tokens.of(texts)
        batch = {
            "images": columns["image"],
            "texts": self._tokens(texts) if ahead is None else ahead,
            "index": columns["index"],
            "same": (reading.image_ids, caption_ids),
        }
        if self._captions is not None and self._first is not None:
            last = self._captions[columns["index"]] - 1
            place = torch.tensor(places, dtype=torch.int64).minimum(last)
            batch["caption"] = self._first[columns["index"]] + place
        return batch

    def _tokens(self, texts: list[str]) -> Any:
        """Return the tokenizer's output for the texts; for no texts, its output without rows."""
        if texts:
            return self.tokenizer(texts)
        tokens = self.tokenizer([""])
        return (
            {name: ids[:0] for name, ids in tokens.items()} if isinstance(tokens, Mapping) else []
        )


def _id(content: bytes) -> int:
    """Return a number that is the same for the same content, in every process."""
    digest = hashlib.sha256(content).digest()
    return int.from_bytes(digest[:8], "little", signed=True)
