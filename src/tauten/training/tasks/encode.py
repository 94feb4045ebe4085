"""Encoding of a whole split of pairs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.models import DualEncoder, Tokenizer
from tauten.training import processes
from tauten.training.stores.classes import Classes
from tauten.training.stores.pair_data import PairData
from tauten.training.stores.pairs import as_input
from tauten.training.tasks.between import with_further
from tauten.training.tasks.encoded import Encoded
from tauten.training.tasks.rows import encode_rows, evaluating, hides

logger = logging.getLogger("tauten.training")


def encode(
    encoder: DualEncoder,
    tokenizer: Tokenizer,
    data: PairData,
    classes: Classes | None,
    batch_size: int = 512,
    progress: bool = True,
    *,
    together: bool = False,
) -> Encoded | None:
    """Encode a split in evaluation mode; the encoder's mode is restored.

    Args:
        encoder: the towers.
        tokenizer: of the text tower.
        data: the split.
        classes: training counts, for groups; None for no groups.
        batch_size: images or captions at a time.
        progress: show a bar for large splits.
        together: all processes call it and each encodes some of the batches, with the same bits.

    Returns:
        The whole split; together only on the first process, None on the others.
    """
    captions, y_of_x = data.unique_captions()
    pairs = data.pairs()
    device = encoder.image_projection.weight.device
    pictured = None if data.has_image is None else data.has_image.nonzero().flatten()

    def images(start: int) -> Tensor:
        rows = slice(start, start + batch_size)
        shown = data.images[rows] if pictured is None else data.images[pictured[rows]]
        return encoder.encode_image(as_input(shown, tokenizer).to(device)).float().cpu()

    def of_texts(texts: Sequence[str], name: str) -> Tensor | None:
        def rows(start: int) -> Tensor:
            inputs = tokenizer(texts[start : start + batch_size])
            inputs = {name: value.to(device) for name, value in inputs.items()}
            return encoder.encode_text(inputs).float().cpu()

        return encode_rows(rows, range(0, len(texts), batch_size), name, hidden, together)

    shown = data.unseen
    wrong = list(dict.fromkeys(text for row in pairs.negatives or () for text in row))

    def of_other(name: str) -> Tensor | None:
        media = data.others[name]
        rows = media.present.nonzero().flatten()

        def vectors(start: int) -> Tensor:
            part = media.pixels[rows[start : start + batch_size]].to(device)
            out: Tensor = encoder.encode_other(name, part)  # type: ignore[operator]
            return out.float().cpu()

        return encode_rows(vectors, range(0, len(rows), batch_size), name, hidden, together)

    hidden = hides(progress, len(data))
    waits = data.media.lazy and progress
    with evaluating(encoder):
        starts = range(0, len(data) if pictured is None else len(pictured), batch_size)
        x = encode_rows(images, starts, "images", hidden and not waits, together)
        y = of_texts(captions, "captions")
        further = {name: of_other(name) for name in data.others}
        n = of_texts(wrong, "negatives") if wrong else None
        z = of_texts(shown.texts, "candidates") if shown else None
    unreadable = _unreadable(data, together)
    if x is None or y is None:
        return None
    x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
    labels = pairs.labels
    split = Encoded(
        x=x,
        y=y,
        captions=captions,
        y_of_x=y_of_x,
        labels=labels,
        groups=None if classes is None or labels is None else classes.groups(labels),
        relevancy=data.relevancy if data.drawn is None else None,
        galleries=data.galleries,
        unreadable=unreadable,
        negatives=None if n is None else _of_samples(n, wrong, pairs.negatives or ()),
        unseen=None if z is None or shown is None else (shown, z),
    )
    if not data.others:
        return split
    vectors = {name: F.normalize(rows, dim=1) for name, rows in further.items() if rows is not None}
    return with_further(split, data, vectors, classes)


def _of_samples(
    vectors: Tensor, texts: Sequence[str], negatives: Sequence[Sequence[str]]
) -> tuple[Tensor, Tensor]:
    """Return (N, K, d) vectors of each sample's texts, and (N, K) bool where one only fills up."""
    at = {text: place for place, text in enumerate(texts)}
    places = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor([at[text] for text in row], dtype=torch.int64) for row in negatives],
        batch_first=True,
        padding_value=-1,
    )
    return vectors[places.clamp(min=0)], places < 0


def _unreadable(data: PairData, together: bool) -> int:
    """Count the clips that any process could not read, and say so in the log."""
    if not data.media.lazy:
        return 0
    unreadable = data.media.unreadable
    parts = processes.gather(unreadable) if together else [unreadable]
    problems = {row: problem for part in parts for row, problem in part.items()}
    if problems and processes.rank() == 0:
        logger.warning(
            "%d of %d clips cannot be read and are searched as black frames; first: %s",
            len(problems),
            len(data),
            problems[min(problems)],
        )
    return len(problems)
