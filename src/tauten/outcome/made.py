"""Outcomes from what an evaluation computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tauten.evaluation import (
    QueryRanks,
    class_scores,
    knn_predict,
    multi_instance_scores,
    ranks,
)
from tauten.evaluation.class_scores import ClassScores
from tauten.evaluation.classification import class_numbers
from tauten.outcome.metrics import CLASS_MAP
from tauten.outcome.outcome import Outcome, Queries


def of_pairs(
    x: Tensor,
    y: Tensor,
    y_of_x: Sequence[Sequence[int]],
    groups: Sequence[str] = (),
    *,
    group_of_y: Sequence[str] = (),
    labels: Sequence[str] = (),
    relevancy: Tensor | None = None,
    ranked: Mapping[str, QueryRanks] | None = None,
    of_classes: Mapping[str, ClassScores] | None = None,
) -> Outcome:
    """Return the outcome of searching y by x and x by y, ties against the model.

    Args:
        x: (N, d) embeddings.
        y: (M, d) embeddings.
        y_of_x: for each x the positions of its y's.
        groups: (N,) of each x, or none.
        group_of_y: (M,) of each y; by default that of the first x that it belongs to.
        labels: (N,) class of each x, "" for none.
        relevancy: (N, M) graded relevancies.
        ranked: ranks of both directions, where they are known already.
        of_classes: see :func:`with_classes`.
    """
    ranked = ranked or ranks(x, y, [list(theirs) for theirs in y_of_x])
    graded: dict[str, dict[str, Tensor]] = {"x2y": {}, "y2x": {}}
    if relevancy is not None:
        similarity = x @ y.T
        graded["x2y"] = multi_instance_scores(similarity, relevancy)
        graded["y2x"] = multi_instance_scores(similarity.T, relevancy.T)
    of_x = list(groups) or [""] * len(x)
    of_y = list(group_of_y) or _of_first(of_x, y_of_x, len(y))
    counts = torch.tensor([len(theirs) for theirs in y_of_x])
    sides = {
        "x2y": Queries(of_x, list(labels) or [""] * len(x), graded["x2y"], ranked["x2y"]),
        "y2x": Queries(of_y, [""] * len(y), graded["y2x"], ranked["y2x"]),
    }
    owner = torch.arange(len(counts)).repeat_interleave(counts)
    target = torch.tensor([j for theirs in y_of_x for j in theirs])
    return with_classes(Outcome("pairs", sides, owner, target), x, y, labels, of_classes)


def _of_first(groups: Sequence[str], y_of_x: Sequence[Sequence[int]], m: int) -> list[str]:
    of_y = [""] * m
    for group, theirs in zip(groups, y_of_x, strict=True):
        for j in theirs:
            of_y[j] = of_y[j] or group
    return of_y


def with_classes(
    outcome: Outcome,
    x: Tensor,
    y: Tensor,
    labels: Sequence[str],
    scores: Mapping[str, ClassScores] | None = None,
) -> Outcome:
    """Return an outcome of pairs with the average precision of the same class for each query.

    A y is of the class of the first x that it belongs to. Queries without another of their class
    get NaN.

    Args:
        outcome: outcome of searching y by x and x by y.
        x: (N, d) embeddings.
        y: (M, d) embeddings.
        labels: (N,) class of each x, "" for none; where all are "" the outcome stays as it is.
        scores: by ``x2y``, ``y2x``, ``x2x``, ``y2y``, where they are known already.
    """
    if not any(labels):
        return outcome
    if scores is None:
        of_y: list[str | None] = [None] * len(y)
        for i, j in reversed([*zip(outcome.owner.tolist(), outcome.target.tolist(), strict=True)]):
            of_y[j] = labels[i] or None
        scores = class_scores(x, [name or None for name in labels], y, of_y)
    sides = {
        way: replace(
            side,
            scores={
                **side.scores,
                **{name: scores[ways[way]].average_precision() for name, ways in CLASS_MAP.items()},
            },
        )
        for way, side in outcome.sides.items()
    }
    sides["x2y"] = replace(sides["x2y"], labels=list(labels))
    return replace(outcome, sides=sides)


def of_views(right: Mapping[str, Tensor], labels: Sequence[str], groups: Sequence[str]) -> Outcome:
    """Return the outcome of classifying images.

    Args:
        right: (Q,) bool by rule, such as ``knn@10`` or ``linear_lt``: which images are right.
        labels: (Q,) classes.
        groups: (Q,) groups of the classes.
    """
    side = Queries([str(name) for name in groups], [str(name) for name in labels], dict(right))
    return Outcome("views", {"": side})


def votes(features: Mapping[str, Any], ks: Sequence[int]) -> dict[str, Tensor]:
    """Return which test images the vote of their nearest training images has right, by rule.

    Args:
        features: ``train`` (M, d), ``test`` (N, d), and of both the classes as ``..._labels``.
        ks: numbers of neighbours.
    """
    if not ks:
        return {}
    known, labels = features["train_labels"].tolist(), features["test_labels"].tolist()
    _, (of_known, of_x) = class_numbers(known, known, labels)
    predicted = knn_predict(features["train"], of_known, features["test"], ks)
    return {f"knn@{k}": vote == of_x for k, vote in predicted.items()}
