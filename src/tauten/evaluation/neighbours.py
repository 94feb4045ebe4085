"""k-nearest-neighbour classification on the unit sphere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.evaluation.checks import integers, numbers, whole, whole_numbers
from tauten.evaluation.classification import accuracy
from tauten.evaluation.correspondence import unit


def knn(
    gallery: Any,
    gallery_labels: Any,
    x: Any,
    labels: Any,
    ks: Sequence[int] = (1, 10),
    groups: Sequence[str] | None = None,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    tile: int = 1024,
) -> dict[str, float]:
    """Return the accuracy of a plain majority vote among the k nearest gallery vectors.

    Vectors are scaled to length 1, so that the nearest are those of largest cosine; a tie in votes
    goes to the lowest class. This is kNN@1 and kNN@10 of TS (Kukleva et al., ICLR 2023), whose
    figure is ``knn@K/class_mean``, with the long-tailed training split as gallery and the features
    before the projector.

    Args:
        gallery: (N, d) features with known classes.
        gallery_labels: (N,) their classes, 0 or more.
        x: (Q, d) features to classify.
        labels: (Q,) their true classes.
        ks: numbers of neighbours.
        groups: group of each class, see :func:`tauten.evaluation.thirds`.
        bootstrap: replicates of the intervals; 0 leaves them out.
        seed: seed of the resampling.
        tile: samples classified at a time.

    Returns:
        For each k the keys of :func:`tauten.evaluation.accuracy` with the name ``knn@K``.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, k not within 1..N.
    """
    votes = knn_predict(gallery, gallery_labels, x, ks, tile=tile)
    of_x = classes(labels, features(x, "x"), "x")
    out: dict[str, float] = {}
    for k in votes:
        right = votes[k] == of_x
        out |= accuracy(right, of_x, groups, name=f"knn@{k}", bootstrap=bootstrap, seed=seed)
    return out


def knn_predict(
    gallery: Any, gallery_labels: Any, x: Any, ks: Sequence[int] = (1, 10), *, tile: int = 1024
) -> dict[int, Tensor]:
    """Return the classes that :func:`knn` predicts.

    Args:
        gallery: (N, d) features with known classes.
        gallery_labels: (N,) their classes, 0 or more.
        x: (Q, d) features to classify.
        ks: numbers of neighbours.
        tile: samples classified at a time.

    Returns:
        For each k the (Q,) long class that most of the k nearest gallery vectors have, the lowest
        of those that tie.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, k not within 1..N.
    """
    known, queries = features(gallery, "gallery"), features(x, "x")
    of_gallery = classes(gallery_labels, known, "gallery")
    if known.shape[1] != queries.shape[1]:
        raise ValueError(f"gallery has width {known.shape[1]} but x has width {queries.shape[1]}")
    ks = whole_numbers(ks, "ks", len(known))
    whole(tile, "tile", 1)
    known, queries = unit(known), unit(queries)
    number = int(of_gallery.max()) + 1
    votes: dict[int, list[Tensor]] = {k: [] for k in ks}
    for part in queries.split(tile):
        neighbours = of_gallery[(part @ known.T).topk(max(ks), dim=1).indices]
        for k, predicted in votes.items():
            predicted.append(F.one_hot(neighbours[:, :k], number).sum(dim=1).argmax(dim=1))
    return {k: torch.cat(predicted) for k, predicted in votes.items()}


def features(values: Any, name: str) -> Tensor:
    """Return features as a float matrix.

    Raises:
        ValueError: not (N, d) with N ≥ 1, or not finite.
    """
    matrix = numbers(values, name)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} must be (N, d) with N >= 1, got shape {tuple(matrix.shape)}")
    matrix = matrix if matrix.dtype == torch.float64 else matrix.float()
    if not bool(matrix.isfinite().all()):
        raise ValueError(f"{name} has {int((~matrix.isfinite()).sum())} values that are not finite")
    return matrix


def classes(labels: Any, matrix: Tensor, name: str) -> Tensor:
    """Return classes of the rows of a matrix.

    Raises:
        ValueError: another length, or a negative class.
    """
    of = integers(labels, f"the labels of {name}")
    if of.shape != (len(matrix),):
        raise ValueError(f"{name} has {len(matrix)} rows but labels of shape {tuple(of.shape)}")
    if int(of.min()) < 0:
        raise ValueError(f"classes must be 0 or more, the labels of {name} go to {int(of.min())}")
    return of
