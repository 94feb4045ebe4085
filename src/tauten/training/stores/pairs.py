"""Batches of pairs: in memory, or of clips that are decoded for each batch."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from tauten.data.problems import Skipped
from tauten.models.dual_encoder import stacked
from tauten.models.tokenizers import Tokenizer
from tauten.structure.cells import texts_of
from tauten.training.options.config import DataConfig
from tauten.training.stores.clip_source import ClipSource
from tauten.training.stores.own_negatives import OwnTexts
from tauten.training.stores.splits import PairData
from tauten.training.stores.text_source import TextSource


class PairStore:
    """A store of batches by sample position.

    Everything random (which caption, alternative text, keywords, where in its segment a frame of a
    clip that is not held in memory is taken) is drawn from torch's global generator at the moment
    of the call, of each sample whether it can be used or not, so a restored generator repeats the
    batch.

    Args:
        data: the training split.
        tokenizer: texts to ids.
        config: probabilities of alternative texts and keywords.
        captions: (N,) long, how many captions each image has, where they have ids of their own; see
            :func:`caption_counts`.

    Attributes:
        skipped: clips that could not be read, counted each time; None where all are in memory.
    """

    def __init__(
        self,
        data: PairData,
        tokenizer: Tokenizer,
        config: DataConfig,
        captions: Tensor | None = None,
    ) -> None:
        self.data = data
        self.tokenizer = tokenizer
        self.config = config
        self.image_ids = _image_ids(data.images)
        self.skipped = Skipped() if isinstance(data.images, ClipSource) else None
        self._first = None if captions is None else captions.cumsum(0) - captions
        unique, _ = data.unique_captions()
        self._captions = unique
        self._caption_id = {text: i for i, text in enumerate(unique)}
        bare = [i for i, own in enumerate(data.captions) if not own]
        self.negatives = None
        if data.negatives is not None:
            self.negatives = OwnTexts(data.negatives, tokenizer, config.negatives_drawn)
        if bare:
            raise ValueError(f"{len(bare)} of {len(data)} images have no caption, first: {bare[0]}")

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, index: Tensor) -> dict[str, Any]:
        """Return images, texts, positions and duplicate ids of these samples, less clips unread.

        Args:
            index: (N,) long.

        Returns:
            images (n, 3, H, W) or clips (n, T, 3, H, W) uint8, or tokens of first texts (n, 2, L)
            long; texts (a tokenizer's output), index (n,), same (image ids, caption ids), each (n,)
            long. Where the data have relevancies also graded: (rows, columns) of the table, each
            (n,) long, and the relevancy of each pair, (n,). Where captions have ids of their own
            also caption, (n,) long; with own negatives what :meth:`OwnTexts.batch` returns. n is N
            less the clips that cannot be read.

        Raises:
            ValueError: no clip can be read, or with ``data.strict`` one cannot.
        """
        draw_N4 = torch.rand(len(index), 4)
        images, usable = self._images(index)
        index = index[usable]
        captions: list[int] = []
        texts: list[str] = []
        places: list[int] = []
        for i, draws in zip(index.tolist(), draw_N4[usable].tolist(), strict=True):
            place, number = self._caption(i, draws[0])
            places.append(place)
            captions.append(number)
            texts.append(self._text(i, self._captions[captions[-1]], draws))
        same = (
            self.image_ids[index],
            torch.tensor([self._caption_id[self._captions[number]] for number in captions]),
        )
        found = {
            "images": images,
            "texts": self.tokenizer(texts),
            "index": index,
            "same": same,
        }
        if self._first is not None:
            found["caption"] = self._first[index] + torch.tensor(places, dtype=torch.int64)
        if self.negatives is not None:
            found |= self.negatives.batch(index)
        relevancy = self.data.relevancy
        if relevancy is not None:
            columns = torch.tensor(captions)
            own = relevancy.of(index, columns)
            found["graded"] = (relevancy.rows[index], relevancy.cols[columns], own)
        return found

    def _images(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Read those of these samples that can be read; return them and an (N,) bool of which."""
        images = self.data.images
        if not isinstance(images, ClipSource):
            return as_input(images[index], self.tokenizer), torch.ones(len(index), dtype=torch.bool)
        inside = torch.rand(len(index), images.shape[1], dtype=torch.float64)
        clips, problems = images.read(index, inside)
        usable = torch.tensor([place not in problems for place in range(len(index))])
        if not usable.any():
            raise ValueError(
                f"none of the {len(index)} clips of a batch can be read: {problems[0]}"
            )
        if problems and self.skipped is not None:
            self.skipped.add(list(problems.values()))
        return (clips[usable] if problems else clips), usable

    def _caption(self, i: int, draw: float) -> tuple[int, int]:
        """Return the place of the drawn caption among those of its image, and its number."""
        if self.data.drawn is not None:
            options = self.data.drawn[i]
            place = int(draw * len(options))
            return place, int(options[place])
        own = self.data.captions[i]
        place = int(draw * len(own))
        return place, self._caption_id[own[place]]

    def _text(self, i: int, caption: str, draws: list[float]) -> str:
        if draws[1] < self.config.alternative and self.data.alternatives[i]:
            caption = self.data.alternatives[i]
        words = self.data.keywords[i]
        if draws[2] < self.config.keywords and words:
            start = int(draws[3] * len(words))
            half = (words[start:] + words[:start])[: (len(words) + 1) // 2]
            caption = " ".join([caption, *half])
        return caption


def caption_counts(data: PairData) -> Tensor | None:
    """Return how many captions each image has, where that gives them ids of their own.

    Captions are numbered image by image, in their order, so that one belongs to one image.

    Returns:
        (N,) long; None where each image has one caption, whose id is that of the image, and where
        captions are drawn from those of other images.
    """
    if data.drawn is not None:
        return None
    counts = torch.tensor([max(len(own), 1) for own in data.all_captions()], dtype=torch.int64)
    return counts if bool((counts > 1).any()) else None


def training_texts(data: PairData, config: DataConfig) -> list[str]:
    """Return all texts that training can show, from which a vocabulary is made."""
    found = [text for options in data.all_captions() for text in options]
    if isinstance(data.images, TextSource):
        found += data.images.texts
    found += [text for own in data.negatives or () for text in own]
    if data.drawn is not None:
        found += data.unique_captions()[0]
    alternatives, keywords = data.alternatives, data.keywords
    if data.shards is not None and config.alternative > 0:
        alternatives = data.shards.column("alt_caption", missing="")
    if data.shards is not None and config.keywords > 0:
        cells = data.shards.column("keywords", missing=())
        keywords = [texts_of(cell) for cell in cells]
    if config.alternative > 0:
        found += alternatives
    if config.keywords > 0:
        found += [word for words in keywords for word in words]
    return found


def as_input(images: Tensor | list[str], tokenizer: Tokenizer) -> Tensor:
    """Return what the first tower takes: pictures and clips as they are, texts as tokens."""
    return images if isinstance(images, Tensor) else stacked(tokenizer(images))


def _image_ids(images: Tensor | ClipSource | TextSource) -> Tensor:
    """Return (N,) long, equal for equal pixels or texts, or the same part of the same video."""
    if not isinstance(images, Tensor):
        return images.ids()
    seen: dict[bytes, int] = {}
    ids = [
        seen.setdefault(hashlib.sha256(image.numpy().tobytes()).digest(), len(seen))
        for image in images
    ]
    return torch.tensor(ids)
