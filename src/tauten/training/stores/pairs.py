"""Batches of pairs: in memory, or of clips that are decoded for each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tauten.data.problems import Skipped
from tauten.models.text_encoder import stacked
from tauten.models.tokenizers import Tokenizer
from tauten.training.options.config import DataConfig
from tauten.training.stores.drawn import DrawnText
from tauten.training.stores.own_negatives import OwnTexts
from tauten.training.stores.store import Reads
from tauten.training.stores.text_changes import TextChanges

if TYPE_CHECKING:
    from tauten.training.stores.pair_data import PairData

#: number of the caption of a sample that has none
_NONE = -1


class PairStore:
    """A store of batches by sample position.

    Everything random (which caption, alternative text, keywords, changes of words, where in its
    segment a frame of a clip that is not held in memory is taken) is drawn from torch's global
    generator at the moment of the call, of each sample whether it can be used or not, so a restored
    generator repeats the batch.

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
        self.media = data.media
        self.image_ids = self.media.ids()
        self.skipped = Skipped() if self.media.lazy else None
        self._text = DrawnText(config.alternative, config.keywords)
        span = (config.span_low, config.span_high)
        self._changes = TextChanges(span, config.left_out, config.repeated)
        self._of_first = TextChanges(span, config.left_out)
        self._first = None if captions is None else captions.cumsum(0) - captions
        unique, _ = data.unique_captions()
        self._captions = unique
        self._caption_id = {text: i for i, text in enumerate(unique)}
        bare = [i for i, texts in enumerate(data.captions) if not texts]
        self._others = {name: (media, media.ids()) for name, media in data.others.items()}
        self.negatives = None
        if data.negatives is not None:
            self.negatives = OwnTexts(data.negatives, tokenizer, config.negatives_drawn)
        present = data.present()
        self._present = None if bool((present[0] & present[1]).all()) else present
        if bare and not data.others:
            raise ValueError(f"{len(bare)} of {len(data)} images have no caption, first: {bare[0]}")

    def __len__(self) -> int:
        return len(self.data)

    def reads(self, seed: int) -> Reads:
        """Return the positions, which the trainer shuffles; all else is drawn in the step."""
        return Reads(len(self))

    def batch(self, index: Tensor, reading: Any = None) -> dict[str, Any]:
        """Return images, texts, positions and duplicate ids of these samples, less clips unread.

        Args:
            index: (N,) long.
            reading: nothing, for nothing is read before.

        Returns:
            images (n, 3, H, W) or clips (n, T, 3, H, W) uint8, or tokens of first texts (n, 2, L)
            long; texts (a tokenizer's output), index (n,), same (image ids, caption ids), each (n,)
            long. Where the data have relevancies also graded: (rows, columns) of the table, each
            (n,) long, and the relevancy of each pair, (n,). Where captions have ids of their own
            also caption, (n,) long; with own negatives what :meth:`OwnTexts.batch` returns. Where
            some sample lacks its image or has no caption also present: which have an image, and
            which a caption, each (n,) bool; zeros and no text stand in their place. n is N less the
            clips that cannot be read.

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
            beside = self.data.alternatives[i], self.data.keywords[i]
            usual = "" if number == _NONE else self._captions[number]
            texts.append(usual and self._text(usual, *beside, draws[1:]))
        same = (
            self.image_ids[index],
            torch.tensor(
                [
                    _NONE if number == _NONE else self._caption_id[self._captions[number]]
                    for number in captions
                ]
            ),
        )
        batch = {
            "images": images,
            "texts": self.tokenizer([self._changes(text) for text in texts]),
            "index": index,
            "same": same,
        }
        if self._first is not None:
            batch["caption"] = self._first[index] + torch.tensor(places, dtype=torch.int64)
        if self._others:
            batch["others"] = {
                name: (media.pixels[index], media.present[index], ids[index])
                for name, (media, ids) in self._others.items()
            }
        if self._present is not None:
            batch["present"] = (self._present[0][index], self._present[1][index])
        if self.negatives is not None:
            batch |= self.negatives.batch(index)
        relevancy = self.data.relevancy
        if relevancy is not None:
            columns = torch.tensor(captions)
            relevancies = relevancy.of(index, columns)
            batch["graded"] = (relevancy.rows[index], relevancy.cols[columns], relevancies)
        return batch

    def _images(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Read those of these samples that can be read; return them and an (N,) bool of which."""
        pictures, problems = self.media.draw(index)
        usable = torch.tensor([place not in problems for place in range(len(index))])
        if not usable.any():
            raise ValueError(
                f"none of the {len(index)} clips of a batch can be read: {problems[0]}"
            )
        if problems and self.skipped is not None:
            self.skipped.add(list(problems.values()))
        if not isinstance(pictures, Tensor):
            pictures = [self._of_first(text) for text in pictures]
        images = as_input(pictures, self.tokenizer)
        return (images[usable] if problems else images), usable

    def _caption(self, i: int, draw: float) -> tuple[int, int]:
        """Return the place of the drawn caption among those of its image, and its number.

        A sample without a caption has the number ``_NONE``.
        """
        if self.data.drawn is not None:
            options = self.data.drawn[i]
            place = int(draw * len(options))
            return place, int(options[place])
        captions = self.data.captions[i]
        if not captions:
            return 0, _NONE
        place = int(draw * len(captions))
        return place, self._caption_id[captions[place]]


def caption_counts(data: PairData) -> Tensor | None:
    """Return how many captions each image has, where that gives them ids of their own.

    Captions are numbered image by image, in their order, so that one belongs to one image.

    Returns:
        (N,) long; None where each image has one caption, whose id is that of the image, and where
        captions are drawn from those of other images.
    """
    if data.drawn is not None:
        return None
    counts = torch.tensor(
        [max(len(captions), 1) for captions in data.all_captions()], dtype=torch.int64
    )
    return counts if bool((counts > 1).any()) else None


def training_texts(data: PairData, config: DataConfig) -> list[str]:
    """Return all texts that training can show, from which a vocabulary is made."""
    shown = [text for options in data.all_captions() for text in options]
    shown += data.media.texts
    shown += [text for texts in data.negatives or () for text in texts]
    if data.drawn is not None:
        shown += data.unique_captions()[0]
    alternatives, keywords = data.texts_beside(config)
    if config.alternative > 0:
        shown += alternatives
    if config.keywords > 0:
        shown += [word for words in keywords for word in words]
    return shown


def as_input(images: Any, tokenizer: Tokenizer) -> Tensor:
    """Return what the first tower takes: pictures and clips as they are, texts as tokens."""
    return images if isinstance(images, Tensor) else stacked(tokenizer(images))
