"""Training batches of pairs that stay in shards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tauten.data.problems import Problem, Skipped
from tauten.data.shard_pairs import ShardPairs
from tauten.structure.cells import texts_of


class ShardStore:
    """A store of batches by sample id, as ``tauten.training.stores.pairs.PairStore`` is in memory.

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

    Attributes:
        skipped: samples that could not be used, counted each time.

    Raises:
        ValueError: pairs without pictures of one size; a probability outside [0, 1].
    """

    def __init__(
        self,
        pairs: ShardPairs,
        tokenizer: Callable[[list[str]], Any],
        *,
        alternative: float = 0.0,
        keywords: float = 0.0,
        strict: bool = False,
        captions: Tensor | None = None,
    ) -> None:
        if pairs.image_size is None or not pairs.pictures:
            raise ValueError("a training batch needs pictures of one size: give image_size=")
        if not (0 <= alternative <= 1 and 0 <= keywords <= 1):
            raise ValueError(
                f"alternative and keywords must be in [0, 1], got {alternative} and {keywords}"
            )
        self.pairs = pairs
        self.tokenizer = tokenizer
        self.alternative = alternative
        self.keywords = keywords
        self.strict = strict
        self.skipped = Skipped()
        self._captions = captions
        self._first = None if captions is None else captions.cumsum(0) - captions

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(
        self, index: Tensor, read: tuple[dict[str, Any], list[Problem]] | None = None
    ) -> dict[str, Any]:
        """Return images, texts, ids and duplicate ids of the usable ones of these samples.

        Args:
            index: (N,) long.
            read: what ``pairs.batch`` gives of them, if they were read before.

        Returns:
            images (n, 3, H, W) uint8, texts (the tokenizer's output), index (n,), same (image ids,
            caption ids), each (n,) long: equal for equal pixels or captions on all processes. Where
            captions have ids of their own also caption, (n,) long. n is N less the samples that
            cannot be used.

        Raises:
            ValueError: with `strict`, a sample that cannot be used.
        """
        draws_N4 = torch.rand(len(index), 4)
        found, problems = self.pairs.batch(index.tolist()) if read is None else read
        if problems and self.strict:
            raise ValueError(str(problems[0]))
        self.skipped.add(problems)
        captions, texts, places = [], [], []
        usable = torch.isin(index, found["index"])
        for row, draws in enumerate(draws_N4[usable].tolist()):
            options = texts_of(found["caption"][row])
            places.append(int(draws[0] * len(options)))
            captions.append(options[places[-1]])
            others = {name: found[name][row] for name in found if name not in ("index", "image")}
            texts.append(self._text(captions[-1], others, draws))
        images = found["image"]
        same = (
            torch.tensor([_id(image.numpy().tobytes()) for image in images], dtype=torch.int64),
            torch.tensor([_id(text.encode()) for text in captions], dtype=torch.int64),
        )
        batch = {
            "images": images,
            "texts": self._tokens(texts),
            "index": found["index"],
            "same": same,
        }
        if self._captions is not None and self._first is not None:
            last = self._captions[found["index"]] - 1
            place = torch.tensor(places, dtype=torch.int64).minimum(last)
            batch["caption"] = self._first[found["index"]] + place
        return batch

    def _tokens(self, texts: list[str]) -> Any:
        """Return the tokenizer's output for the texts; for no texts, its output without rows."""
        if texts:
            return self.tokenizer(texts)
        found = self.tokenizer([""])
        return {name: ids[:0] for name, ids in found.items()} if isinstance(found, Mapping) else []

    def _text(self, caption: str, columns: dict[str, Any], draws: list[float]) -> str:
        if draws[1] < self.alternative and columns.get("alt_caption"):
            caption = columns["alt_caption"]
        words = texts_of(columns.get("keywords"))
        if draws[2] < self.keywords and words:
            start = int(draws[3] * len(words))
            half = (words[start:] + words[:start])[: (len(words) + 1) // 2]
            caption = " ".join([caption, *half])
        return caption


def _id(content: bytes) -> int:
    """Return a number that is the same for the same content, in every process."""
    digest = hashlib.sha256(content).digest()
    return int.from_bytes(digest[:8], "little", signed=True)
