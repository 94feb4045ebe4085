"""Embeddings of a whole split, and its retrieval metrics."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, islice
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from tauten.data import Relevancy
from tauten.evaluation import (
    QueryRanks,
    class_scores,
    compositional,
    geometry,
    multi_instance_retrieval,
    ranks,
)
from tauten.evaluation.class_level import ClassScores, of_class_scores
from tauten.evaluation.correspondence import correspondence
from tauten.evaluation.retrieval import of_ranks
from tauten.evaluation.summary import PerQuery, summarize
from tauten.evaluation.unseen import unseen_scores
from tauten.models import DualEncoder, Tokenizer
from tauten.outcome import Outcome, of_pairs
from tauten.outcome.metrics import KS, WAYS
from tauten.training import processes
from tauten.training.options.further import CAPTION, IMAGE
from tauten.training.stores.pairs import as_input
from tauten.training.stores.rows import UNLABELLED
from tauten.training.stores.splits import Classes, PairData
from tauten.training.stores.unseen import Unseen

BAR_FROM = 5000
#: before the metrics of a recommendation
UNSEEN = "unseen"
CLASS_KS, CLASS_WAYS = (1, 5, 10), ("x2y", "y2x", "x2x", "y2y")
Name = TypeVar("Name")

logger = logging.getLogger("tauten.training")


@dataclass(frozen=True)
class Encoded:
    """Both sides of a split.

    Attributes:
        x: (N, d) image embeddings, rows of length 1, float32 on the CPU.
        y: (M, d) embeddings of the unique captions.
        captions: the M captions.
        y_of_x: for each image the positions of its captions.
        labels: class of each image, or None.
        groups: "head", "mid" or "tail" of each image, or None.
        relevancy: (N, M), or None where only an image's own captions count.
        galleries: equal parts that are searched one by one, each image with its own captions; the
            metrics are means over them, without intervals.
        unreadable: how many of the N are clips that cannot be read, searched as black frames.
        negatives: (N, K, d) of each image's own, and (N, K) bool where one only fills up; or None.
        unseen: candidates of a recommendation, and their embeddings (C, d); or None.
        others: of each further modality embeddings (n, d), rows of length 1, and (N,) bool of which
            images have it.
    """

    x: Tensor
    y: Tensor
    captions: list[str]
    y_of_x: list[list[int]]
    labels: list[str] | None
    groups: list[str] | None
    relevancy: Relevancy | None = None
    galleries: int = 1
    unreadable: int = 0
    negatives: tuple[Tensor, Tensor] | None = None
    unseen: tuple[Unseen, Tensor] | None = None
    others: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def retrieval(self, bootstrap: int = 0, seed: int = 0) -> dict[str, float]:
        """Return metrics both ways, by group where every caption has one group,
        and ``mean_recall``.

        With classes also those of :func:`tauten.evaluation.class_retrieval`, as ``class/...``, and
        ``class_map``, the mean of ``class/D/mAP`` over the directions D that have one.
        With relevancies also those of :func:`tauten.evaluation.multi_instance_retrieval`, as
        ``multi_instance/...``.
        With own negatives also those of :func:`tauten.evaluation.compositional`, as
        ``compositional/...``, of each image and its first caption.
        With further modalities also those of retrieval of each two of them, as ``A+B/...``, and
        ``all/mean_recall``, the mean over all two.
        """
        if self.galleries > 1:
            parts = [self._gallery(k).retrieval() for k in range(self.galleries)]
            shared = set.intersection(*map(set, parts))
            return {
                name: math.fsum(part[name] for part in parts) / len(parts)
                for name in parts[0]
                if name in shared
            } | self._compositional(bootstrap, seed)
        pairs = correspondence(self.y_of_x, len(self.x), len(self.y))
        groups = self.groups, self._caption_groups()
        metrics = of_ranks(self.ranks, pairs, KS, *groups, bootstrap=bootstrap, seed=seed)
        recalls = [metrics[f"{way}/hit@{k}"] for way in WAYS for k in KS]
        metrics |= {"mean_recall": math.fsum(recalls) / len(recalls)}
        metrics |= self._class_level(bootstrap, seed) | self._compositional(bootstrap, seed)
        metrics |= self._recommendation(bootstrap, seed) | self._multi_instance(bootstrap, seed)
        return metrics | self._between_others(metrics["mean_recall"], bootstrap, seed)

    @cached_property
    def ranks(self) -> dict[str, QueryRanks]:
        """Return ranks of all matches among the whole split, both ways."""
        return ranks(self.x, self.y, self.y_of_x)

    @cached_property
    def of_classes(self) -> dict[str, ClassScores] | None:
        """Return scores of retrieving the same class; None where there are no classes."""
        if self.labels is None:
            return None
        return class_scores(self.x, _named(self.labels), self.y, self.class_of_y(), CLASS_KS)

    def outcome(self) -> Outcome:
        """Return the results of each query."""
        outcome = of_pairs(
            self.x,
            self.y,
            self.y_of_x,
            self.groups or (),
            labels=self.labels or (),
            relevancy=None if self.relevancy is None else self.relevancy.dense(),
            ranked=self.ranks,
            of_classes=self.of_classes,
        )
        first = outcome.sides["x2y"]
        with_shown = dataclasses.replace(first, scores={**first.scores, **self.recommended})
        return dataclasses.replace(outcome, sides={**outcome.sides, "x2y": with_shown})

    def class_of_y(self) -> list[str | None] | None:
        """Return (M,) the class of each caption: that of the first image with it."""
        return None if self.labels is None else _of_first(_named(self.labels), self.y_of_x)

    def _class_level(self, bootstrap: int, seed: int) -> dict[str, float]:
        if self.of_classes is None:
            return {}
        scores = of_class_scores(
            self.of_classes,
            correspondence(self.y_of_x, len(self.x), len(self.y)),
            self.groups,
            self._caption_groups(),
            bootstrap=bootstrap,
            seed=seed,
        )
        metrics = {f"class/{name}": value for name, value in scores.items()}
        for group in ("", *(f"/{name}" for name in sorted(set(self.groups or ())))):
            precisions = [
                scores[key] for way in CLASS_WAYS if (key := f"{way}/mAP{group}") in scores
            ]
            if precisions:
                metrics[f"class_map{group}"] = math.fsum(precisions) / len(precisions)
        return metrics

    def _between_others(self, first: float, bootstrap: int, seed: int) -> dict[str, float]:
        """Return retrieval of each two modalities but image and caption, of samples with both."""
        names, recalls = [IMAGE, *self.others, CAPTION], [first]
        metrics: dict[str, float] = {}
        for one, other in combinations(names, 2):
            pair = self._of_two(one, other) if self.others else None
            if pair is None or (one, other) == (IMAGE, CAPTION):
                continue
            of_pair = pair.retrieval(bootstrap, seed)
            recalls.append(of_pair["mean_recall"])
            metrics |= {f"{one}+{other}/{name}": value for name, value in of_pair.items()}
        return metrics | ({"all/mean_recall": math.fsum(recalls) / len(recalls)} if metrics else {})

    def _of_two(self, one: str, other: str) -> Encoded | None:
        """Return two modalities as a split of the samples with both; None where there are none."""
        every = torch.ones(len(self.x), dtype=torch.bool)
        sides = {IMAGE: (self.x, every)} | dict(self.others)
        x, there = sides[one]
        both = there if other == CAPTION else there & sides[other][1]
        rows = both.nonzero().flatten().tolist()
        if not rows:
            return None
        columns = sorted({j for i in rows for j in self.y_of_x[i]})
        y_of_x = [[place] for place in range(len(rows))]
        if other == CAPTION:
            at = {j: place for place, j in enumerate(columns)}
            y, y_of_x = self.y[columns], [[at[j] for j in self.y_of_x[i]] for i in rows]
        else:
            vectors, present = sides[other]
            y = vectors[both[present]]
        return Encoded(
            x=x[both[there]],
            y=y,
            captions=[self.captions[j] for j in columns] if other == CAPTION else [""] * len(rows),
            y_of_x=y_of_x,
            labels=None,
            groups=None if self.groups is None else [self.groups[i] for i in rows],
        )

    def _compositional(self, bootstrap: int, seed: int) -> dict[str, float]:
        if self.negatives is None:
            return {}
        first = self.y[[captions[0] for captions in self.y_of_x]]
        other, missing = self.negatives
        scores = compositional(
            *(self.x, first, other, self.groups), missing=missing, bootstrap=bootstrap, seed=seed
        )
        return {f"compositional/{name}": value for name, value in scores.items()}

    @cached_property
    def recommended(self) -> dict[str, Tensor]:
        """Return (N,) scores of a ranking of what each first text has not seen; {} for no such."""
        if self.unseen is None:
            return {}
        shown, candidates = self.unseen
        scores = unseen_scores(self.x, candidates, shown.matches, shown.seen, shown.k)
        return {f"{UNSEEN}/{name}": score for name, score in scores.items()}

    def _recommendation(self, bootstrap: int, seed: int) -> dict[str, float]:
        if not self.recommended:
            return {}
        scores = PerQuery(means=self.recommended)
        return summarize("", scores, self.groups, None, bootstrap, seed)

    def _gallery(self, k: int) -> Encoded:
        """Return part k of the images, and the captions that are theirs."""
        rows = torch.arange(len(self.x)).chunk(self.galleries)[k].tolist()
        columns = sorted({j for i in rows for j in self.y_of_x[i]})
        at = {j: position for position, j in enumerate(columns)}
        return Encoded(
            x=self.x[rows],
            y=self.y[columns],
            captions=[self.captions[j] for j in columns],
            y_of_x=[[at[j] for j in self.y_of_x[i]] for i in rows],
            labels=None if self.labels is None else [self.labels[i] for i in rows],
            groups=None if self.groups is None else [self.groups[i] for i in rows],
        )

    def _multi_instance(self, bootstrap: int, seed: int) -> dict[str, float]:
        if self.relevancy is None:
            return {}
        graded = multi_instance_retrieval(
            self.x @ self.y.T, self.relevancy.dense(), bootstrap=bootstrap, seed=seed
        )
        return {
            f"multi_instance/{name}": value
            for name, value in graded.items()
            if math.isfinite(value)
        }

    def geometry(self) -> dict[str, float]:
        """Return alignment, uniformity, tolerance, modality gap, as ``geometry/...``."""
        unique = self.labels if self._one_class_per_caption() else None
        measures = geometry(self.x, self.y, unique, y_of_x=self.y_of_x)
        return {
            f"geometry/{name}": value for name, value in measures.items() if math.isfinite(value)
        }

    def _caption_groups(self) -> list[str] | None:
        """Return the group of each caption: that of the first image with it."""
        if self.groups is None:
            return None
        return _of_first(self.groups, self.y_of_x)

    def _one_class_per_caption(self) -> bool:
        seen: dict[int, str] = {}
        return (
            self.labels is not None
            and UNLABELLED not in self.labels
            and all(
                seen.setdefault(caption, label) == label
                for label, captions in zip(self.labels, self.y_of_x, strict=True)
                for caption in captions
            )
        )


def _named(labels: Sequence[str]) -> list[str | None]:
    return [None if name == UNLABELLED else name for name in labels]


def _of_first(names: Sequence[Name], y_of_x: Sequence[Sequence[int]]) -> list[Name]:
    """Return (M,) for each caption the name of the first image with it."""
    first: dict[int, Name] = {}
    for name, captions in zip(names, y_of_x, strict=True):
        for caption in captions:
            first.setdefault(caption, name)
    return [first[caption] for caption in range(len(first))]


def selectable(data: PairData, classes: Classes | None) -> list[str]:
    """Return the metrics of a split by which a checkpoint may be chosen, where higher is better.

    Args:
        data: the split.
        classes: training counts, for groups; None for no groups.
    """
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
    others = [IMAGE, *data.others, CAPTION] if data.others else []
    of_two = [f"{a}+{b}" for a, b in combinations(others, 2) if (a, b) != (IMAGE, CAPTION)]
    names += [f"{two}/{way}/hit@{k}" for two in of_two for way in WAYS for k in KS]
    names += [f"{two}/mean_recall" for two in of_two]
    names += ["all/mean_recall"] if others else []
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
    device = encoder.image_projection.weight.device

    def images(start: int) -> Tensor:
        part = as_input(data.images[start : start + batch_size], tokenizer).to(device)
        return encoder.encode_image(part).float().cpu()

    def of_texts(texts: Sequence[str], name: str) -> Tensor | None:
        def rows(start: int) -> Tensor:
            inputs = tokenizer(texts[start : start + batch_size])
            inputs = {name: value.to(device) for name, value in inputs.items()}
            return encoder.encode_text(inputs).float().cpu()

        return encode_rows(rows, range(0, len(texts), batch_size), name, hidden, together)

    shown = data.unseen
    wrong = list(dict.fromkeys(text for row in data.negatives or () for text in row))

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
        starts = range(0, len(data), batch_size)
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
    known = classes is not None and data.labels is not None
    return Encoded(
        x=F.normalize(x, dim=1),
        y=F.normalize(y, dim=1),
        captions=captions,
        y_of_x=y_of_x,
        labels=data.labels,
        groups=classes.groups(data.labels) if known and classes and data.labels else None,
        relevancy=data.relevancy if data.drawn is None else None,
        galleries=data.galleries,
        unreadable=unreadable,
        others={
            name: (F.normalize(vectors, dim=1), data.others[name].present)
            for name, vectors in further.items()
            if vectors is not None
        },
        negatives=None if n is None else _of_samples(n, wrong, data.negatives or ()),
        unseen=None if z is None or shown is None else (shown, z),
    )


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
