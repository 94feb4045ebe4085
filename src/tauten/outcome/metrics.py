"""Metrics that a comparison may ask of an outcome, by what was evaluated."""

from __future__ import annotations

from typing import NamedTuple

KS = (1, 5, 10)
MEAN_RECALL = "mean_recall"
"""The mean of hit@1, hit@5 and hit@10."""
CLASS_MEAN = "/class_mean"
WAYS = ("x2y", "y2x")
OF_RELEVANCY = {"nDCG": "nDCG", "mAP": "mAP_official"}
"""Metrics with graded relevancies, and what :func:`tauten.evaluation.multi_instance_scores` calls
them."""
CLASS_MAP = {
    "class_map_across": {"x2y": "x2y", "y2x": "y2x"},
    "class_map_within": {"x2y": "x2x", "y2x": "y2y"},
}
"""mAP of the same class by name, and what is searched for the queries of a direction."""
OF_CLASSES = ("class_map", *CLASS_MAP)
"""Metrics of classes, which not every query has; the first is the mean of the others."""
INSTANCE = "instance@"
"""Prefix of the metrics of two views without classes."""
NEIGHBOURS = (1, 10)
"""Numbers of neighbours by whose votes images are classified."""
RULES = tuple(f"knn@{k}" for k in NEIGHBOURS)


class Metrics(NamedTuple):
    """Metrics of one kind of evaluation.

    Attributes:
        names: names of all metrics, each a fraction.
        main: the one that is compared unless told otherwise.
    """

    names: tuple[str, ...]
    main: str


PAIRS = Metrics(
    (
        MEAN_RECALL,
        *(f"hit@{k}" for k in KS),
        *(f"{way}/hit@{k}" for way in WAYS for k in KS),
        *OF_CLASSES,
    ),
    MEAN_RECALL,
)
GRADED = Metrics((*PAIRS.names, *OF_RELEVANCY), MEAN_RECALL)
VIEWS = Metrics(
    tuple(rule + kind for rule in RULES for kind in ("", CLASS_MEAN)), f"knn@10{CLASS_MEAN}"
)
