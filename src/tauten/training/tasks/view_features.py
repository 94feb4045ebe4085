"""Features of a whole split, and how well they tell classes apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tauten.evaluation import accuracy, few_shot, knn_predict, sgd_predict, svm_predict
from tauten.evaluation.classification import class_numbers
from tauten.models import ViewEncoder
from tauten.outcome.metrics import NEIGHBOURS
from tauten.training.stores.classes import Classes
from tauten.training.stores.pair_data import PairData
from tauten.training.tasks.rows import encode_rows, evaluating, hides


def encode_features(
    encoder: ViewEncoder,
    data: PairData,
    batch_size: int = 512,
    progress: bool = True,
    *,
    together: bool = True,
) -> Tensor | None:
    """Encode a split to features, before the projector; the encoder's mode is restored.

    Args:
        encoder: its tower is used.
        data: the split.
        batch_size: images at a time.
        progress: show a bar for large splits.
        together: all processes call it and each encodes some of the batches.

    Returns:
        (N, width) float32 on the first process, None on the others.
    """
    device = next(encoder.parameters()).device

    def images(start: int) -> Tensor:
        part = data.images[start : start + batch_size].to(device)
        return encoder.features(part).float().cpu()

    hidden = hides(progress, len(data))
    with evaluating(encoder):
        return encode_rows(images, range(0, len(data), batch_size), "images", hidden, together)


@dataclass(frozen=True)
class Sides:
    """The features of the training split and of one that is classified by it.

    Attributes:
        known: (N, d) of the training split.
        of_known: (N,) long, its classes.
        x: (Q, d) of the other one.
        of_x: (Q,) long, its classes.
        groups: "head", "mid" or "tail" of each class.
    """

    known: Tensor
    of_known: Tensor
    x: Tensor
    of_x: Tensor
    groups: list[str]

    @classmethod
    def of(
        cls, known: Tensor, train: PairData, x: Tensor, data: PairData, classes: Classes
    ) -> Sides:
        """Make the sides from features; a class without training images comes last, never right."""
        labels, others = train.labels or [], data.labels or []
        names, (of_known, of_x) = class_numbers(classes.counts, labels, others)
        return cls(known, of_known, x, of_x, classes.groups(names))

    def right(self, kind: str) -> dict[str, Tensor]:
        """Return (Q,) bool, which images are classified right, by rule.

        ``knn@K`` is the vote of the nearest training images, as TS has it, see
        :func:`tauten.evaluation.knn`. Linear probes are of ``kind`` "svm" or "sgd", or "none":
        ``linear_lt`` learns from the whole training split (TS: LT), ``linear_fs`` from as many
        images of each class as its rarest has (TS: FS).
        """
        ks = [k for k in NEIGHBOURS if k <= len(self.known)]
        votes = knn_predict(self.known, self.of_known, self.x, ks)
        outcomes = {f"knn@{k}": vote == self.of_x for k, vote in votes.items()}
        if kind == "none":
            return outcomes
        everything = torch.arange(len(self.known))
        for name, rows in (("linear_lt", everything), ("linear_fs", few_shot(self.of_known))):
            sides = self.known[rows], self.of_known[rows], self.x
            least = int(self.of_x.max()) + 1
            predicted = svm_predict(*sides) if kind == "svm" else sgd_predict(*sides, least=least)
            outcomes[name] = predicted == self.of_x
        return outcomes

    def accuracies(self, right: Mapping[str, Tensor], bootstrap: int) -> dict[str, float]:
        """Return those of what :meth:`right` returns, see :func:`tauten.evaluation.accuracy`."""
        metrics: dict[str, float] = {}
        for name, outcome in right.items():
            metrics |= accuracy(outcome, self.of_x, self.groups, name=name, bootstrap=bootstrap)
        return metrics
