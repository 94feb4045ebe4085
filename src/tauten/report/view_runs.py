"""A run of two views as a report sees it: test images, and the training images nearest to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.report.runs import SeedRun

NEAREST = 10
"""Training images that are looked up for each test image, at most."""
TILE = 1024


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
    """

    known: Tensor
    of_known: Tensor
    x: Tensor
    of_x: Tensor
    names: Sequence[str]
    groups: Sequence[str]

    @classmethod
    def of(cls, run: SeedRun) -> ViewTest:
        """Of a run's ``features.npz``."""
        labels = {split: run.test[f"{split}_labels"].tolist() for split in ("train", "test")}
        known = sorted(set(labels["train"]))
        names = [*known, *sorted({*labels["test"]} - {*known})]
        place = {name: number for number, name in enumerate(names)}
        group = {
            label: str(group)
            for split in ("test", "train")
            for label, group in zip(labels[split], run.test[f"{split}_groups"], strict=True)
        }
        (x_known, of_known), (x, of_x) = (
            (
                F.normalize(torch.from_numpy(run.test[split]), dim=1),
                torch.tensor([place[label] for label in labels[split]]),
            )
            for split in ("train", "test")
        )
        return cls(x_known, of_known, x, of_x, names, [group[name] for name in names])

    @cached_property
    def counts(self) -> Tensor:
        """(C,) training images of each class."""
        return torch.bincount(self.of_known, minlength=len(self.names))

    @cached_property
    def nearest(self) -> Tensor:
        """(Q, K) positions of the training images of largest cosine, nearest first."""
        number = min(NEAREST, len(self.known))
        tiles = self.x.split(TILE)
        return torch.cat([(tile @ self.known.T).topk(number, dim=1).indices for tile in tiles])

    def right(self, k: int) -> Tensor:
        """(Q,) whether the vote of the k nearest is right, as :func:`tauten.evaluation.knn` has it.

        A tie goes to the lowest class.
        """
        votes = F.one_hot(self.of_known[self.nearest[:, :k]], len(self.names)).sum(dim=1)
        return votes.argmax(dim=1) == self.of_x
