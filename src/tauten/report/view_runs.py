"""A run of two views as a report sees it: test images, and the training images nearest to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.evaluation.classification import class_numbers
from tauten.report.runs import KNN, SeedRun


@dataclass(frozen=True)
class ViewTest:
    """Features of the training and the test split.

    Attributes:
        known: (N, d) of the training images, of length 1.
        of_known: (N,) long, their classes.
        x: (Q, d) of the test images, of length 1.
        of_x: (Q,) long, their classes.
        names: of the classes; those of training images first, both parts sorted.
        groups: "head", "mid" or "tail" of each class.
        right: (Q,) bool by metric, whether each test image is classified right: of each recorded
            ``knn@K``, from the features; of linear probes as the run recorded it, which earlier
            ones did not.
    """

    known: Tensor
    of_known: Tensor
    x: Tensor
    of_x: Tensor
    names: Sequence[str]
    groups: Sequence[str]
    right: Mapping[str, Tensor]

    @classmethod
    def of(cls, run: SeedRun) -> ViewTest:
        """Read the test features of a run from its ``features.npz``."""
        labels = {split: run.test[f"{split}_labels"].tolist() for split in ("train", "test")}
        names, (of_known, of_x) = class_numbers(labels["train"], labels["train"], labels["test"])
        group = {
            label: str(group)
            for split in ("test", "train")
            for label, group in zip(labels[split], run.test[f"{split}_groups"], strict=True)
        }
        known, x = (torch.from_numpy(run.test[split]) for split in ("train", "test"))
        right = run.outcome.first.scores
        return cls(
            F.normalize(known, dim=1),
            of_known,
            F.normalize(x, dim=1),
            of_x,
            names,
            [group[name] for name in names],
            right,
        )

    @cached_property
    def counts(self) -> Tensor:
        """(C,) training images of each class."""
        return torch.bincount(self.of_known, minlength=len(self.names))

    def nearest(self, i: int, count: int) -> list[int]:
        """Return positions of the training images of largest cosine to test image i,
        nearest first.
        """
        number = min(count, len(self.known))
        return [int(j) for j in (self.known @ self.x[i]).topk(number).indices]


def neighbours(metric: str) -> int:
    """Return the K of ``knn@K``."""
    return int(metric.removeprefix(KNN))
