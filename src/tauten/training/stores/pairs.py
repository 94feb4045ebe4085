"""Batches of pairs: in memory, or of clips that are decoded for each batch."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tauten.data.problems import Skipped
from tauten.models.text_encoder import stacked
from tauten.models.tokenizers import Tokenizer
from tauten.training.options.config import DataConfig
from tauten.training.stores.ahead import Reading, Tokens, tokens_ahead
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
        if config.ahead and not self.media.lazy:
            raise ValueError(
                "data.ahead=True reads videos ahead, and the clips of this split are held in "
                "memory: leave it out"
            )
        self._ahead = ThreadPoolExecutor(1) if config.ahead else None
        self._workers = 0 if config.frames else config.workers
        self._strict = config.strict
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
        """Return the positions, which the trainer shuffles; what is random is drawn in the step.

        With ``data.ahead`` the clips of the next batch are decoded meanwhile.
        """
        if self._ahead is not None:
            return Reads(len(self), partial(self._begin, self._ahead, seed))
        if not self._workers:
            return Reads(len(self))
        return Reads(len(self), self.read, self._workers)

    def _begin(
        self, pool: ThreadPoolExecutor, seed: int, positions: list[int], epoch: int
    ) -> Reading:
        """Begin to decode clips, whose frames follow from seed, epoch and clip, for a step to come.

        A worker of the loader would inherit from this process what its threads decoded.
        """
        return Reading(pool.submit(self.media.draw, torch.tensor(positions), (seed, epoch)))

    def read(self, positions: list[int], epoch: int = 0) -> Reading:
        """Return pictures and tokens of these positions, for a step to come."""
        pictures, _ = self.media.draw(torch.tensor(positions))
        texts = [] if isinstance(pictures, Tensor) or self._of_first else list(pictures)
        if not (self._text.keywords or self._changes or self.data.drawn is not None):
            for i in positions:
                texts += self.data.captions[i]
                if self._text.alternative and self.data.alternatives[i]:
                    texts.append(self.data.alternatives[i])
        if self.negatives is not None:
            texts += [text for i in positions for text in self.negatives.texts[i]]
        return Reading(pictures, tokens_ahead(texts, self.tokenizer))

    def _tokens(self, reading: Reading | None, texts: list[str]) -> dict[str, Tensor]:
        """Return the tokens of these texts, those that were made before where they all were."""
        ahead = None if reading is None or reading.tokens is None else reading.tokens.of(texts)
        return self.tokenizer(texts) if ahead is None else ahead

    def batch(self, index: Tensor, reading: Reading | None = None) -> dict[str, Any]:
        """Return images, texts, positions and duplicate ids of these samples, less clips unread.

        Args:
            index: (N,) long.
            reading: what was read of them before; None to read them now.

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
        tokens = partial(self._tokens, reading)
        images, usable = self._images(index, reading, tokens)
        index = index[usable]
        drawn = [
            self._drawn(i, draws)
            for i, draws in zip(index.tolist(), draw_N4[usable].tolist(), strict=True)
        ]
        captions = [number for _, number, _ in drawn]
        batch = {
            "images": images,
            "texts": tokens([self._changes(text) for _, _, text in drawn]),
            "index": index,
            "same": (self.image_ids[index], self._ids_of(captions)),
        }
        if self._first is not None:
            batch["caption"] = self._first[index] + torch.tensor(
                [place for place, _, _ in drawn], dtype=torch.int64
            )
        if self._others:
            batch["others"] = {
                name: (media.pixels[index], media.present[index], ids[index])
                for name, (media, ids) in self._others.items()
            }
        if self._present is not None:
            batch["present"] = (self._present[0][index], self._present[1][index])
        if self.negatives is not None:
            batch |= self.negatives.batch(index, tokens)
        relevancy = self.data.relevancy
        if relevancy is not None:
            columns = torch.tensor(captions)
            relevancies = relevancy.of(index, columns)
            batch["graded"] = (relevancy.rows[index], relevancy.cols[columns], relevancies)
        return batch

    def _images(
        self, index: Tensor, reading: Reading | None, tokens: Tokens
    ) -> tuple[Tensor, Tensor]:
        """Read those of these samples that can be read; return them and an (N,) bool of which."""
        if reading is None:
            pictures, problems = self.media.draw(index)
        elif isinstance(reading.pictures, Future):
            pictures, problems = reading.pictures.result()
        else:
            pictures, problems = reading.pictures, {}
        if problems and self._strict:
            raise ValueError(str(next(iter(problems.values()))))
        usable = torch.tensor([place not in problems for place in range(len(index))])
        if not usable.any():
            raise ValueError(
                f"none of the {len(index)} clips of a batch can be read: {problems[0]}"
            )
        if problems and self.skipped is not None:
            self.skipped.add(list(problems.values()))
        if not isinstance(pictures, Tensor):
            pictures = [self._of_first(text) for text in pictures]
        images = as_input(pictures, tokens)
        return (images[usable] if problems else images), usable

    def _drawn(self, i: int, draws: list[float]) -> tuple[int, int, str]:
        """Return place and number of a sample's caption as :meth:`_caption`, and the text shown."""
        place, number = self._caption(i, draws[0])
        beside = self.data.alternatives[i], self.data.keywords[i]
        usual = "" if number == _NONE else self._captions[number]
        return place, number, usual and self._text(usual, *beside, draws[1:])

    def _ids_of(self, captions: list[int]) -> Tensor:
        """Return (n,) long, equal where captions of these numbers are the same text."""
        ids = [n if n == _NONE else self._caption_id[self._captions[n]] for n in captions]
        return torch.tensor(ids)

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


def as_input(images: Any, tokenizer: Tokens) -> Tensor:
    """Return what the first tower takes: pictures and clips as they are, texts as tokens."""
    return images if isinstance(images, Tensor) else stacked(tokenizer(images))
