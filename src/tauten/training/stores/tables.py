"""Pairs of a table, decoded once and held in memory."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from tauten.data import contents, fingerprint
from tauten.data.decoder import Decoder
from tauten.data.emoji_video import name_relevancy
from tauten.data.pixels import stacked
from tauten.structure.cells import texts_of
from tauten.training.options.config import DataConfig
from tauten.training.options.pretrained import prepared
from tauten.training.stores.clips import decode
from tauten.training.stores.columns import check_columns
from tauten.training.stores.held_out import raw_images
from tauten.training.stores.other_media import OtherMedia, other_media
from tauten.training.stores.own_negatives import negatives_of
from tauten.training.stores.pair_data import PairData, Split
from tauten.training.stores.rows import class_names
from tauten.training.stores.text_source import TextSource

logger = logging.getLogger("tauten.training")


def to_pairs(
    dataset: Dataset,
    config: DataConfig,
    progress: bool = True,
    views: bool = False,
    place: str | None = None,
    split: Split | None = None,
    decoder: Decoder | None = None,
) -> PairData:
    """Decode a data set with the columns image and caption, once.

    Args:
        dataset: of one split.
        config: of the data.
        progress: show a bar for large sets.
        views: for two views of a picture: each sample needs a class, if there are any.
        place: of the data, for messages.
        split: for messages.
        decoder: that checked the pictures, if one did.

    Raises:
        ValueError: no sample, a column that is not there, or what cannot be read.
    """
    place = place or config.source or config.test or config.val or "the data"
    where = place if split is None else f"{place} ({split})"
    if len(dataset) == 0:
        raise ValueError(
            f"no sample left in a split of {where}; give more data, or data.val and data.test"
        )
    if config.limit is not None and config.limit < len(dataset):
        spaced = torch.linspace(0, len(dataset) - 1, config.limit).round().long().tolist()
        dataset = dataset.select(spaced)
    names = dataset.column_names
    label = config.label or ("label" if config.source == "emoji_lt" else None)
    check_columns(config, names, place)
    pixels: Any
    has_image: Tensor | None = None
    if config.texts:
        pixels, content = _first_texts(dataset, place), fingerprint(dataset)
    elif config.frames:
        pixels, dataset, content = decode(dataset, config, progress)
    else:
        pixels, has_image = _pictures(dataset, config, where, progress, decoder)
        content = fingerprint(dataset)
    captions = [texts_of(cell) for cell in dataset["caption"][:]]
    count = len(captions)
    alternatives = dataset["alt_caption"][:] if "alt_caption" in names else [""] * count
    keywords = dataset["keywords"][:] if "keywords" in names else [[]] * count
    others = {
        name: other_media(
            dataset, name, prepared(config), place, where, strict=config.strict, draft=config.draft
        )
        for name in config.others
    }
    pairs = PairData(
        images=pixels,
        captions=captions,
        alternatives=[text or "" for text in alternatives],
        keywords=[texts_of(cell) for cell in keywords],
        labels=None
        if label is None
        else class_names(dataset[label][:], label, where, needed=views),
        fingerprint=content,
        contents="" if config.frames else _contents(dataset, others),
        others=others,
        has_image=has_image,
        negatives=None
        if config.negatives is None
        else negatives_of(dataset[config.negatives][:], captions, config.negatives, where),
    )
    if others:
        _check_modalities(pairs, config, where)
    if config.relevancy == "none":
        return pairs
    first_captions = [texts[0] for texts in pairs.captions]
    relevancy = name_relevancy(first_captions, pairs.unique_captions()[0])
    return dataclasses.replace(pairs, relevancy=relevancy)


def _pictures(
    dataset: Dataset, config: DataConfig, place: str, progress: bool, decoder: Decoder | None
) -> tuple[Tensor, Tensor | None]:
    """Return the pixels of all samples, and (N,) bool which have a picture; None where all do."""
    stored = raw_images(dataset) if config.others else []
    rows = [row for row, cell in enumerate(stored) if cell is not None]
    decode = (decoder or Decoder(prepared(config), config.draft)).pixels
    if len(rows) == len(stored):
        return stacked(dataset, decode, progress), None
    if not rows:
        raise ValueError(f"no picture in the column {config.image!r} of {place}")
    shown = stacked(dataset.select(rows), decode, progress)
    pixels = shown.new_zeros(len(dataset), *shown.shape[1:])
    pixels[rows] = shown
    has_image = torch.zeros(len(dataset), dtype=torch.bool)
    has_image[rows] = True
    return pixels, has_image


def _check_modalities(data: PairData, config: DataConfig, place: str) -> None:
    """Say how many samples lack an image or a caption, and refuse data that have no pair.

    Raises:
        ValueError: no sample with both, or relevancies of captions that are not there.
    """
    pictured, captioned = (int(there.sum()) for there in data.present())
    both = int(data.complete().sum())
    if both == len(data):
        return
    logger.info(
        "%s: of %d samples %d have an image, %d a caption, %d both",
        *(place, len(data), pictured, captioned, both),
    )
    if not both:
        raise ValueError(
            f"no sample of {place} has both an image ({config.image!r}) and a caption "
            f"({config.caption!r}): the loss of the run and its retrieval are of these two"
        )
    if config.relevancy != "none":
        raise ValueError(
            f"data.relevancy={config.relevancy} needs an image and a caption of each sample: "
            f"{len(data) - both} of {len(data)} samples of {place} lack one"
        )


def _contents(dataset: Dataset, others: Mapping[str, OtherMedia]) -> str:
    whole = contents(dataset)
    if not others:
        return whole
    parts = [whole, *(media.content() for media in others.values())]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]


def _first_texts(dataset: Dataset, place: str) -> TextSource:
    cells = dataset["image"][:]
    odd = next((cell for cell in cells if not isinstance(cell, bytes | str)), None)
    if odd is not None:
        raise ValueError(
            f"data.texts: {place} has pictures: give a table whose column data.image holds texts"
        )
    return TextSource([cell.decode() if isinstance(cell, bytes) else cell for cell in cells])
