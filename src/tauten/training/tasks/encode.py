"""Embeddings of a whole split, and its retrieval metrics."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from tauten.evaluation import multi_instance_retrieval
from tauten.models import DualEncoder, Tokenizer
from tauten.outcome.metrics import KS, WAYS
from tauten.training import processes
from tauten.training.stores.pairs import as_input
from tauten.training.stores.splits import Classes, PairData
from tauten.training.tasks.between import in_both, with_further
from tauten.training.tasks.encoded import UNSEEN, Encoded

BAR_FROM = 5000

logger = logging.getLogger("tauten.training")


def selectable(data: PairData, classes: Classes | None) -> list[str]:
    """Return the metrics of a split by which a checkpoint may be chosen, where higher is better.

    Args:
        data: the split.
        classes: training counts, for groups; None for no groups.
    """
    of_two = ["+".join(two) for two in in_both(data)]
    further, data = bool(data.others), data.pairs()
    names = list(_few(data, classes).retrieval())
    if data.unseen is not None:
        names += [f"{UNSEEN}/{kind}@{data.unseen.k}" for kind in ("recall", "NDCG")]
    if data.negatives is not None:
        asked = [i for i, texts in enumerate(data.negatives) if texts]
        groups = []
        if classes is not None and data.labels is not None:
            groups = classes.groups([data.labels[i] for i in asked])
        kinds = ("accuracy", "pairwise")
        names += [f"compositional/{kind}" for kind in kinds]
        names += [f"compositional/{kind}/{group}" for kind in kinds for group in sorted({*groups})]
    if data.relevancy is not None and data.drawn is None:
        graded = multi_instance_retrieval(torch.eye(2), torch.eye(2), bootstrap=0)
        names += [f"multi_instance/{name}" for name in graded]
    names += [f"{two}/{way}/hit@{k}" for two in of_two for way in WAYS for k in KS]
    names += [f"{two}/mean_recall" for two in of_two]
    names += ["all/mean_recall"] if further else []
    parts = {name: set(name.split("/")) for name in names}
    return [
        name
        for name in names
        if not any(part == "n" or part.endswith("rank") or part[:2] == "n_" for part in parts[name])
    ]


def _few(data: PairData, classes: Classes | None) -> Encoded:
    """Return a few made embeddings of a split, with all metrics that the whole split has.

    Of each group it has up to three images of its largest class, two of them with other captions
    if there are such.
    """
    if data.labels is None:
        return Encoded(torch.eye(2), torch.eye(2), ["", ""], [[0], [1]], None, None)
    groups = classes.groups(data.labels) if classes is not None else None
    _, y_of_x = data.unique_captions()
    rows: list[int] = []
    for group in sorted(set(groups or ("",))):
        members = [i for i in range(len(data.labels)) if groups is None or groups[i] == group]
        largest = Counter(data.labels[i] for i in members).most_common(1)[0][0]
        members = [i for i in members if data.labels[i] == largest]
        other = (i for i in members if y_of_x[i] != y_of_x[members[0]])
        rows += sorted({*members[:2], *islice(other, 1)})
    columns = sorted({j for i in rows for j in y_of_x[i]})
    at = {j: position for position, j in enumerate(columns)}
    return Encoded(
        torch.eye(len(rows)),
        torch.ones(len(columns), len(rows)),
        [""] * len(columns),
        [[at[j] for j in y_of_x[i]] for i in rows],
        [data.labels[i] for i in rows],
        None if groups is None else [groups[i] for i in rows],
    )


def encode(
    encoder: DualEncoder,
    tokenizer: Tokenizer,
    data: PairData,
    classes: Classes | None,
    batch_size: int = 512,
    progress: bool = True,
) -> Encoded:
    """Encode a split in evaluation mode; the encoder's mode is restored.

    Args:
        encoder: the towers.
        tokenizer: of the text tower.
        data: the split.
        classes: training counts, for groups; None for no groups.
        batch_size: images or captions at a time.
        progress: show a bar for large splits.
    """
    encoded = _encode(encoder, tokenizer, data, classes, batch_size, progress, together=False)
    assert encoded is not None
    return encoded


def encode_together(
    encoder: DualEncoder,
    tokenizer: Tokenizer,
    data: PairData,
    classes: Classes | None,
    batch_size: int = 512,
    progress: bool = True,
) -> Encoded | None:
    """Encode like :func:`encode`, bit for bit, each process some of the batches; all must call.

    Returns:
        The whole split on the first process, None on the others.
    """
    return _encode(encoder, tokenizer, data, classes, batch_size, progress, together=True)


@torch.no_grad()
def _encode(
    encoder: DualEncoder,
    tokenizer: Tokenizer,
    data: PairData,
    classes: Classes | None,
    batch_size: int,
    progress: bool,
    *,
    together: bool,
) -> Encoded | None:
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

    was_training = encoder.training
    encoder.eval()
    hidden = not progress or len(data) < BAR_FROM
    waits = data.media.lazy and progress
    try:
        starts = range(0, len(data) if pictured is None else len(pictured), batch_size)
        x = encode_rows(images, starts, "images", hidden and not waits, together)
        y = of_texts(captions, "captions")
        further = {name: of_other(name) for name in data.others}
        n = of_texts(wrong, "negatives") if wrong else None
        z = of_texts(shown.texts, "candidates") if shown else None
    finally:
        encoder.train(was_training)
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


def encode_rows(
    encode_from: Callable[[int], Tensor], starts: range, name: str, hidden: bool, together: bool
) -> Tensor | None:
    """Encode the rows of all batches; if together, process r of W takes r, r + W, ..."""
    turn, turns = (processes.rank(), processes.count()) if together else (0, 1)
    encoded = [encode_from(s) for s in tqdm(starts[turn::turns], desc=name, disable=hidden)]
    rows = processes.collect(encoded) if together else [encoded]
    if rows is None:
        return None
    return torch.cat([rows[k % turns][k // turns] for k in range(len(starts))])
