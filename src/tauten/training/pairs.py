"""Batches of pairs from the memory cache."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from tauten.models.tokenizers import Tokenizer
from tauten.training.config import DataConfig
from tauten.training.splits import PairData


class PairStore:
    """Makes a training batch of sample positions.

    Everything random (which caption, alternative text, keywords) is drawn from torch's global
    generator at the moment of the call, so a restored generator repeats the batch.

    Args:
        data: the training split.
        tokenizer: texts to ids.
        config: probabilities of alternative texts and keywords.
    """

    def __init__(self, data: PairData, tokenizer: Tokenizer, config: DataConfig) -> None:
        self.data = data
        self.tokenizer = tokenizer
        self.config = config
        self.image_ids = _image_ids(data.images)
        captions, _ = data.unique_captions()
        self._captions = captions
        self._caption_id = {text: i for i, text in enumerate(captions)}
        bare = [i for i, own in enumerate(data.captions) if not own]
        if bare:
            raise ValueError(f"{len(bare)} of {len(data)} images have no caption, first: {bare[0]}")

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, index: Tensor) -> dict[str, Any]:
        """Images, texts, positions and duplicate ids of these samples.

        Args:
            index: (N,) long.

        Returns:
            images (N, 3, H, W) or clips (N, T, 3, H, W) uint8, texts (a tokenizer's output), index
            (N,), same (image ids, caption ids), each (N,) long. Where the data have relevancies
            also graded: (rows, columns) of the table, each (N,) long, and the relevancy of each
            pair, (N,).
        """
        draw_N4 = torch.rand(len(index), 4).tolist()
        captions: list[str] = []
        texts: list[str] = []
        for i, draws in zip(index.tolist(), draw_N4, strict=True):
            captions.append(self._caption(i, draws[0]))
            texts.append(self._text(i, captions[-1], draws))
        same = (
            self.image_ids[index],
            torch.tensor([self._caption_id[text] for text in captions]),
        )
        found = {
            "images": self.data.images[index],
            "texts": self.tokenizer(texts),
            "index": index,
            "same": same,
        }
        relevancy = self.data.relevancy
        if relevancy is not None:
            own = relevancy.of(index, same[1])
            found["graded"] = (relevancy.rows[index], relevancy.cols[same[1]], own)
        return found

    def _caption(self, i: int, draw: float) -> str:
        if self.data.drawn is not None:
            options = self.data.drawn[i]
            return self._captions[int(options[int(draw * len(options))])]
        own = self.data.captions[i]
        return own[int(draw * len(own))]

    def _text(self, i: int, caption: str, draws: list[float]) -> str:
        if draws[1] < self.config.alternative and self.data.alternatives[i]:
            caption = self.data.alternatives[i]
        words = self.data.keywords[i]
        if draws[2] < self.config.keywords and words:
            start = int(draws[3] * len(words))
            half = (words[start:] + words[:start])[: (len(words) + 1) // 2]
            caption = " ".join([caption, *half])
        return caption


def training_texts(data: PairData, config: DataConfig) -> list[str]:
    """All texts that training can show, from which a vocabulary is made."""
    found = [text for options in data.all_captions() for text in options]
    if data.drawn is not None:
        found += data.unique_captions()[0]
    alternatives, keywords = data.alternatives, data.keywords
    if data.shards is not None and config.alternative > 0:
        alternatives = data.shards.column("alt_caption", missing="")
    if data.shards is not None and config.keywords > 0:
        cells = data.shards.column("keywords", missing=())
        keywords = [[cell] if isinstance(cell, str) else list(cell) for cell in cells]
    if config.alternative > 0:
        found += alternatives
    if config.keywords > 0:
        found += [word for words in keywords for word in words]
    return found


def _image_ids(images: Tensor) -> Tensor:
    """(N,) long, equal for equal pixels."""
    seen: dict[bytes, int] = {}
    ids = [
        seen.setdefault(hashlib.sha256(image.numpy().tobytes()).digest(), len(seen))
        for image in images
    ]
    return torch.tensor(ids)
