"""One split in memory, and how the published protocols search it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tauten.data import Relevancy
from tauten.data.caption_sampling import Candidates
from tauten.models.tokenizers import Tokenizer
from tauten.training.options.config import DataConfig
from tauten.training.stores.clip_source import ClipSource
from tauten.training.stores.held import Media, media
from tauten.training.stores.other_media import OtherMedia
from tauten.training.stores.pairs import PairStore
from tauten.training.stores.store import Store
from tauten.training.stores.text_source import TextSource
from tauten.training.stores.unseen import Unseen

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

#: images of a gallery and number of galleries
_PROTOCOLS = {"1k": (1000, 1), "5k": (5000, 1), "1k-of-5k": (1000, 5)}
_CAPTIONS = 5


@dataclass(frozen=True)
class PairData:
    """One split, in memory or with clips that stay in their videos.

    Attributes:
        images: (N, 3, H, W) uint8, or clips (N, T, 3, H, W), or features (N, d) float32; or clips
            that are decoded when they are asked for; or the first texts of pairs of texts.
        captions: for each image its captions, at least one.
        alternatives: for each image another text to train on, or "".
        keywords: for each image words to train on, perhaps none.
        labels: class of each image, "" for one without, or None where the data have no classes.
        fingerprint: hash of the content, of some of the pictures.
        contents: hash of all that is used, every picture included; "" where they stay on disk.
        relevancy: (N, M) of the images and the M candidates, never held as a matrix; or None where
            only an image's own captions count.
        candidates: all M captions and for each image the positions of its own, where these are not
            simply the unique captions.
        drawn: which candidates may be an image's caption in training, where these are not its own.
        negatives: for each image texts that are wrong for it, or None where the data have none.
        unseen: captions of training that are searched beside, without those that each first text
            has there; or None.
        others: pictures of further modalities by the name of their column. With them a sample may
            lack its image, or have no caption.
        has_image: (N,) bool, which samples have an image, zeros where not; None where all do.
        galleries: equal parts of the images that are searched one by one.
    """

    images: Tensor | ClipSource | TextSource
    captions: list[list[str]]
    alternatives: list[str]
    keywords: list[list[str]]
    labels: list[str] | None
    fingerprint: str
    relevancy: Relevancy | None = None
    candidates: tuple[list[str], list[list[int]]] | None = None
    drawn: Candidates | None = None
    galleries: int = 1
    negatives: list[list[str]] | None = None
    unseen: Unseen | None = None
    others: dict[str, OtherMedia] = dataclasses.field(default_factory=dict)
    contents: str = ""
    has_image: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def media(self) -> Media:
        """The images, by what is common to those in memory and those in videos."""
        return media(self.images)

    def usable(self) -> int:
        """Return the position of a sample that can be used."""
        if self.others:
            return int(self.complete().nonzero()[0])
        return self.media.usable()

    def present(self) -> tuple[Tensor, Tensor]:
        """Return which samples have an image, and which a caption, each (N,) bool."""
        captioned = torch.ones(len(self), dtype=torch.bool)
        if self.others:
            captioned = torch.tensor([bool(texts) for texts in self.captions])
        pictured = torch.ones_like(captioned) if self.has_image is None else self.has_image
        return pictured, captioned

    def complete(self) -> Tensor:
        """Return which samples have both an image and a caption, (N,) bool."""
        pictured, captioned = self.present()
        return pictured & captioned

    def pairs(self) -> PairData:
        """Return the samples that have both an image and a caption; the split itself if all do."""
        rows = self.complete().nonzero().flatten()
        if not self.others or len(rows) == len(self):
            return self
        assert isinstance(self.images, Tensor)
        at = rows.tolist()
        labels, negatives = self.labels, self.negatives
        return dataclasses.replace(
            self,
            images=self.images[rows],
            captions=[self.captions[i] for i in at],
            alternatives=[self.alternatives[i] for i in at],
            keywords=[self.keywords[i] for i in at],
            labels=None if labels is None else [labels[i] for i in at],
            negatives=None if negatives is None else [negatives[i] for i in at],
            others={name: media.at(rows) for name, media in self.others.items()},
            has_image=None,
        )

    def all_captions(self) -> list[list[str]]:
        """Return the captions of each image."""
        return self.captions

    def texts_beside(self, config: DataConfig) -> tuple[list[str], list[list[str]]]:
        """Return alternative texts and keywords of each image, those that training can show."""
        return self.alternatives, self.keywords

    def store(self, tokenizer: Tokenizer, config: DataConfig, captions: Tensor | None) -> Store:
        """Return the batches of a training on this split.

        Args:
            tokenizer: texts to ids.
            config: probabilities of alternative texts and keywords.
            captions: see :func:`tauten.training.stores.pairs.caption_counts`.
        """
        return PairStore(self, tokenizer, config, captions)

    def unique_captions(self) -> tuple[list[str], list[list[int]]]:
        """Return the captions that are searched, and for each image the positions of its own."""
        if self.candidates is not None:
            return self.candidates
        position: dict[str, int] = {}
        of_image = [
            [position.setdefault(text, len(position)) for text in dict.fromkeys(texts)]
            for texts in self.captions
        ]
        return list(position), of_image


def as_published(data: PairData, protocol: str) -> PairData:
    """Return a test split in the form in which Flickr30K and MSCOCO are measured.

    Each image has its first five captions. All of them are candidates, also where two images have
    an equal one, of which only the own counts.

    Args:
        data: in the order of Karpathy's file.
        protocol: "1k" or "5k", so many images; "1k-of-5k", five thousands whose metrics are
            averaged (Faghri et al., BMVC 2018).

    Raises:
        ValueError: another number of images, or one with fewer than five captions.
    """
    size, galleries = _PROTOCOLS[protocol]
    few = sum(len(texts) < _CAPTIONS for texts in data.captions)
    if len(data) != size * galleries or few:
        raise ValueError(
            f"data.protocol={protocol} is measured on {size * galleries} test images with "
            f"{_CAPTIONS} captions, there are {len(data)}, {few} of them with fewer captions: use "
            "data.protocol=all, or the whole published split"
        )
    texts = [text for matches in data.captions for text in matches[:_CAPTIONS]]
    matches = [list(range(i * _CAPTIONS, (i + 1) * _CAPTIONS)) for i in range(len(data))]
    return dataclasses.replace(data, candidates=(texts, matches), galleries=galleries)
