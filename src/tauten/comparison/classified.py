"""Test images classified right by the features of two-view training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tauten.comparison.scores import Scores
from tauten.evaluation import knn_predict
from tauten.evaluation.classification import class_numbers
from tauten.files import opened_arrays, replacing
from tauten.training.view_rules import KS

_CLASS_MEAN = "/class_mean"
_RULES = tuple(f"knn@{k}" for k in KS)


@dataclass(frozen=True)
class Classified(Scores):
    """Queries classified right by the vote of their nearest training images.

    ``knn@K`` is the share of them, ``knn@K/class_mean`` the mean over classes of each class's own
    share, in which every query weighs 1 over the size of its class.

    Attributes:
        right: (N,) bool of each rule, by its name.
        labels: (N,) class of each query.
        groups: (N,) "head", "mid" or "tail" of each query.
    """

    METRICS: ClassVar[tuple[str, ...]] = tuple(
        rule + kind for rule in _RULES for kind in ("", _CLASS_MEAN)
    )
    MAIN: ClassVar[str] = "knn@10/class_mean"

    right: Mapping[str, Tensor]
    labels: list[str]
    groups: list[str]

    @staticmethod
    def of(features: Mapping[str, Any]) -> Classified:
        """Classify the test images by the features that a run of two views has written.

        Args:
            features: ``train`` (M, d), ``test`` (N, d), and of both the classes as
                ``..._labels``; ``test_groups`` (N,).
        """
        known, labels = features["train_labels"].tolist(), features["test_labels"].tolist()
        _, (of_known, of_x) = class_numbers(known, known, labels)
        votes = knn_predict(features["train"], of_known, features["test"], KS)
        return Classified(
            {f"knn@{k}": vote == of_x for k, vote in votes.items()},
            [str(label) for label in labels],
            [str(group) for group in features["test_groups"]],
        )

    def scores(self, metric: str) -> Tensor:
        """Return (N,) float64, 1 where a query is right, by ``knn@K`` or ``knn@K/class_mean``.

        Raises:
            ValueError: another metric.
        """
        if metric not in self.METRICS:
            raise ValueError(f"unknown metric {metric!r}; there are {', '.join(self.METRICS)}")
        return self.right[metric.removesuffix(_CLASS_MEAN)].double()

    def weights(self, metric: str) -> Tensor:
        """Return (N,) float64, of a mean over classes 1 over the queries of each query's class."""
        if not metric.endswith(_CLASS_MEAN):
            return super().weights(metric)
        sizes = Counter(self.labels)
        return torch.tensor([1 / sizes[label] for label in self.labels], dtype=torch.float64)

    def same_queries(self, other: Any) -> bool:
        """Return whether both have queries of the same classes and groups in the same order."""
        return isinstance(other, Classified) and (self.labels, self.groups) == (
            other.labels,
            other.groups,
        )

    def save(self, path: Path) -> None:
        """Write them compactly."""
        arrays: dict[str, Any] = {rule: right.numpy() for rule, right in self.right.items()}
        for name, values in (("labels", self.labels), ("groups", self.groups)):
            arrays[name] = np.array(values, dtype=np.str_)
        with replacing(path) as file:
            np.savez_compressed(file, **arrays)

    @staticmethod
    def load(path: Path) -> Classified:
        """Load what :meth:`save` wrote."""
        with opened_arrays(path) as stored:
            return Classified(
                {rule: torch.from_numpy(stored[rule]) for rule in _RULES},
                [str(label) for label in stored["labels"]],
                [str(group) for group in stored["groups"]],
            )
