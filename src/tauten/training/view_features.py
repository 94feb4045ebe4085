"""Features of a whole split, and how well they tell classes apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tauten.evaluation import accuracy, few_shot, knn, sgd_predict, svm_predict
from tauten.evaluation.classification import class_numbers
from tauten.models import ViewEncoder
from tauten.training.encode import BAR_FROM, encode_rows
from tauten.training.splits import Classes, PairData
from tauten.training.view_rules import KS


@torch.no_grad()
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

    was_training = encoder.training
    encoder.eval()
    hidden = not progress or len(data) < BAR_FROM
    try:
        return encode_rows(images, range(0, len(data), batch_size), "images", hidden, together)
    finally:
        encoder.train(was_training)


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

    def neighbours(self, bootstrap: int) -> dict[str, float]:
        """Return the votes of the nearest training images: :func:`tauten.evaluation.knn`,
        as in TS.
        """
        ks = [k for k in KS if k <= len(self.known)]
        sides = self.known, self.of_known, self.x, self.of_x
        return knn(*sides, ks, self.groups, bootstrap=bootstrap)

    def probes(self, kind: str) -> dict[str, Tensor]:
        """Return (Q,) bool, whether linear probes are right: "svm" or "sgd"; of "none" nothing.

        ``linear_lt`` learns from the whole training split (TS: LT), ``linear_fs`` from as many
        images of each class as its rarest has (TS: FS).
        """
        if kind == "none":
            return {}
        everything = torch.arange(len(self.known))
        found = {}
        for name, rows in (("linear_lt", everything), ("linear_fs", few_shot(self.of_known))):
            sides = self.known[rows], self.of_known[rows], self.x
            least = int(self.of_x.max()) + 1
            predicted = svm_predict(*sides) if kind == "svm" else sgd_predict(*sides, least=least)
            found[name] = predicted == self.of_x
        return found

    def accuracies(self, right: Mapping[str, Tensor], bootstrap: int) -> dict[str, float]:
        """Return the accuracies of what :meth:`probes` returns, in head, mid and tail."""
        found: dict[str, float] = {}
        for name, outcome in right.items():
            found |= accuracy(outcome, self.of_x, self.groups, name=name, bootstrap=bootstrap)
        return found
