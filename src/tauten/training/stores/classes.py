"""The long tail of a training split: classes of its samples, their counts and groups."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tauten.data import count_groups
from tauten.evaluation import thirds
from tauten.training import processes
from tauten.training.options.config import DataConfig
from tauten.training.stores.pair_data import PairData, Split
from tauten.training.stores.rows import UNLABELLED


@dataclass(frozen=True)
class Classes:
    """The long tail of the training split.

    Attributes:
        counts: training samples of each class, by name.
        head: smallest count of the head.
        tail: smallest count that is no longer tail.
        by: "counts", by these two; "thirds", by the rank of the class, see
            :func:`tauten.evaluation.thirds`.
    """

    counts: dict[str, int]
    head: int
    tail: int
    by: str = "counts"

    def per_sample(self, labels: Sequence[str]) -> Tensor:
        """Return (N,) long, training count of each sample's class;
        0 for a class not seen in training.
        """
        return torch.tensor([self.counts.get(name, 0) for name in labels], dtype=torch.int64)

    def groups(self, labels: Sequence[str]) -> list[str]:
        """Return "head", "mid" or "tail" for each sample; by thirds an unknown class is tail.

        A sample without a class is "unlabelled".

        Raises:
            ValueError: thirds of fewer than three classes.
        """
        if self.by == "thirds":
            names = sorted(self.counts)
            if len(names) < 3:
                raise ValueError(
                    f"data.groups=thirds needs 3 or more classes, got {len(names)}: set "
                    "data.groups to counts"
                )
            of = dict(zip(names, thirds([self.counts[name] for name in names]), strict=True))
            groups = [of.get(name, "tail") for name in labels]
        else:
            groups = list(count_groups(self.per_sample(labels), self.head, self.tail))
        pairs = zip(groups, labels, strict=True)
        return ["unlabelled" if name == UNLABELLED else group for group, name in pairs]


def with_classes(
    splits: dict[Split, PairData], config: DataConfig, progress: bool = True
) -> tuple[dict[Split, PairData], Classes | None]:
    """Give each sample a class, from labels or caption clusters, and count those of training.

    Every split's captions are assigned to the nearest cluster of the training captions.
    """
    train = splits["train"]
    if train.labels is None and config.clusters > 0:
        labels = processes.first(lambda: _clusters(splits, config.clusters, progress))
        splits = {
            name: dataclasses.replace(data, labels=labels[name]) for name, data in splits.items()
        }
        train = splits["train"]
    if train.labels is None:
        return splits, None
    counts = dict(Counter(name for name in train.labels if name != UNLABELLED))
    return splits, Classes(counts, config.head, config.tail, config.groups)


def _clusters(
    splits: Mapping[Split, PairData], count: int, progress: bool
) -> dict[Split, list[str]]:
    """Return the name of each sample's cluster, of each split."""
    from tauten.structure import embed_captions
    from tauten.structure.clustering import embedded_clusters

    all_captions = {name: data.all_captions() for name, data in splits.items()}
    captions = {name: [texts[0] for texts in rows if texts] for name, rows in all_captions.items()}
    clusters, train = embedded_clusters(
        captions.pop("train"),
        count,
        starts=1,
        progress=progress,  # as runs of earlier versions had
    )
    others = {name: embed_captions(texts, progress=progress) for name, texts in captions.items()}
    embeddings: dict[Split, Tensor] = {"train": train, **others}
    nearest = {n: (rows @ clusters.centroids.T).argmax(dim=1) for n, rows in embeddings.items()}
    numbers = {name: iter(rows.tolist()) for name, rows in nearest.items()}
    return {
        name: [f"cluster {next(numbers[name])}" if texts else UNLABELLED for texts in rows]
        for name, rows in all_captions.items()
    }
