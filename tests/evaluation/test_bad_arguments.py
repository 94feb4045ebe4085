"""Each public function refuses what it cannot use with a ValueError that names the argument."""

import math

import numpy as np
import pytest
import torch

from tauten import evaluation as ev

X, LABELS, ONE = torch.randn(6, 4), [0, 1, 2, 0, 1, 2], [[0], [1], [2], [3], [4], [5]]

#: a call that works, as (function, arguments)
GOOD = {
    "retrieval": (ev.retrieval, {"x": X, "y": X, "y_of_x": ONE, "bootstrap": 3}),
    "ranks": (ev.ranks, {"x": X, "y": X, "y_of_x": ONE}),
    "geometry": (ev.geometry, {"x": X, "y": X}),
    "bootstrap_mean": (ev.bootstrap_mean, {"scores": [0.0, 1.0], "bootstrap": 3}),
    "paired_bootstrap": (ev.paired_bootstrap, {"a": [0.0, 1.0], "b": [1.0, 1.0], "bootstrap": 3}),
    "accuracy": (ev.accuracy, {"correct": [1, 0], "labels": [0, 1], "bootstrap": 3}),
    "thirds": (ev.thirds, {"counts": [3, 2, 1]}),
    "spearman": (ev.spearman, {"a": torch.arange(5.0), "b": torch.rand(5), "bootstrap": 3}),
    "knn": (
        ev.knn,
        {"gallery": X, "gallery_labels": LABELS, "x": X, "labels": LABELS, "ks": (1,)},
    ),
    "zero_shot": (ev.zero_shot, {"x": X, "labels": LABELS, "class_vectors": X, "bootstrap": 3}),
    "few_shot": (ev.few_shot, {"labels": LABELS}),
    "sgd_probe": (
        ev.sgd_probe,
        {"train": X, "train_labels": LABELS, "x": X, "labels": LABELS, "epochs": 1},
    ),
    "svm_probe": (ev.svm_probe, {"train": X, "train_labels": LABELS, "x": X, "labels": LABELS}),
    "multi_instance_retrieval": (
        ev.multi_instance_retrieval,
        {"similarity": torch.eye(3), "relevancy": torch.eye(3), "bootstrap": 3},
    ),
}
WRONG = {
    "embeddings": (
        None, "rows", 3, [], [[1.0], [1.0, 2.0]], torch.zeros(3), torch.zeros(0, 4),
        torch.full((6, 4), math.nan), torch.full((6, 4), math.inf), torch.zeros(6, 4, 1),
        X.to(torch.complex64), {"a": 1}, np.array(["a", "b"]),
    ),
    "classes": (
        None, "ab", 3, [], [0.5] * 6, [-1] * 6, [0, 1], [True] * 6, [[0] * 6], ["a"] * 6,
        torch.full((6,), math.nan),
    ),
    "own": (
        None, "ab", 3, [], [[6]] * 6, [[-1]] * 6, [[0, 0]] * 6, [0.5] * 6, [[True]] * 6,
        torch.zeros(6, 2).long(), [["a"]] * 6, {0: 1}, torch.tensor(3),
    ),
    "ks": ((), (0,), (-1,), (2.5,), (True,), (math.nan,), "5", 5, None, ("1",)),
    "ks or all": ((), (0,), (-1,), (2.5,), (True,), (math.nan,), "5", 5, ("1",)),
    "count": (-1, 2.5, math.nan, True, "3", None),
    "number": (0, -1.0, math.nan, math.inf, "3", None, True),
    "scores": (None, "ab", [], [math.nan, 1.0], [[[1.0]]], [1j, 1j], ["a", "b"]),
}  # fmt: skip
KINDS = {
    ("retrieval", "ranks", "geometry"): {"x": "embeddings", "y": "embeddings", "tile": "count"},
    ("retrieval", "ranks"): {"y_of_x": "own"},
    ("retrieval",): {"ks": "ks", "bootstrap": "count", "seed": "count"},
    ("geometry",): {"t": "number"},
    ("bootstrap_mean",): {"scores": "scores", "bootstrap": "count"},
    ("paired_bootstrap",): {"a": "scores", "b": "scores", "bootstrap": "count"},
    ("accuracy",): {"correct": "scores", "bootstrap": "count"},
    ("spearman",): {"a": "scores", "b": "scores", "bootstrap": "count"},
    ("thirds",): {"counts": "scores"},
    ("knn",): {
        "ks": "ks",
        "gallery": "embeddings",
        "gallery_labels": "classes",
        "tile": "count",
    },
    ("knn", "zero_shot"): {"x": "embeddings", "labels": "classes"},
    ("zero_shot",): {"ks": "ks or all", "class_vectors": "embeddings"},
    ("few_shot",): {"labels": "classes"},
    ("sgd_probe", "svm_probe"): {
        "train": "embeddings",
        "x": "embeddings",
        "train_labels": "classes",
        "labels": "classes",
        "bootstrap": "count",
    },
    ("sgd_probe",): {"epochs": "count", "batch_size": "count", "lr": "number"},
    ("multi_instance_retrieval",): {
        "similarity": "embeddings",
        "relevancy": "embeddings",
        "bootstrap": "count",
    },
}
#: values of a kind that mean something to one argument or function
FITS = {("seed", "-1"), ("few_shot", "[0, 1]")}
CASES = [
    (name, argument, kind)
    for names, arguments in KINDS.items()
    for name in names
    for argument, kind in arguments.items()
]


@pytest.mark.parametrize("name", GOOD)
def test_the_call_that_is_changed_works(name):
    function, arguments = GOOD[name]
    function(**arguments)


@pytest.mark.parametrize(("name", "argument", "kind"), CASES)
def test_what_cannot_be_used_is_refused(name, argument, kind):
    function, arguments = GOOD[name]
    accepted = []
    for value in WRONG[kind]:
        if (argument, str(value)) in FITS or (name, str(value)) in FITS:
            continue
        try:
            function(**{**arguments, argument: value})
            accepted.append(value)
        except ValueError:
            continue
    assert not accepted
