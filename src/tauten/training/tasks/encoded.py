"""Both sides of a split as embeddings, and their metrics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from tauten.data import Relevancy
from tauten.evaluation import (
    QueryRanks,
    class_scores,
    compositional,
    geometry,
    multi_instance_retrieval,
    ranks,
)
from tauten.evaluation.class_level import of_class_scores
from tauten.evaluation.class_scores import ClassScores
from tauten.evaluation.correspondence import correspondence
from tauten.evaluation.retrieval import of_ranks
from tauten.evaluation.summary import PerQuery, summarize
from tauten.evaluation.unseen import unseen_scores
from tauten.outcome import Outcome, of_pairs
from tauten.outcome.metrics import KS, WAYS
from tauten.training.stores.rows import UNLABELLED
from tauten.training.stores.unseen import Unseen

#: before the metrics of a recommendation
UNSEEN = "unseen"
CLASS_KS, CLASS_WAYS = (1, 5, 10), ("x2y", "y2x", "x2x", "y2y")
Name = TypeVar("Name")


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
        between: each two of further modalities, by name such as ``A+B``, as a split of the samples
            that have both; and of the image or the caption and a further one.
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
    between: Mapping[str, Encoded] = field(default_factory=dict)

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
        recalls = [first]
        metrics: dict[str, float] = {}
        for name, pair in self.between.items():
            of_pair = pair.retrieval(bootstrap, seed)
            recalls.append(of_pair["mean_recall"])
            metrics |= {f"{name}/{metric}": value for metric, value in of_pair.items()}
        return metrics | ({"all/mean_recall": math.fsum(recalls) / len(recalls)} if metrics else {})

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
        columns, y_of_x = of_rows(rows, self.y_of_x)
        return Encoded(
            x=self.x[rows],
            y=self.y[columns],
            captions=[self.captions[j] for j in columns],
            y_of_x=y_of_x,
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


def of_rows(
    rows: Sequence[int], y_of_x: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]]]:
    """Return the captions of some images, and for each image the places of its own among them."""
    columns = sorted({j for i in rows for j in y_of_x[i]})
    at = {j: place for place, j in enumerate(columns)}
    return columns, [[at[j] for j in y_of_x[i]] for i in rows]
