"""Test images and the training images that each run finds nearest: same class or not."""

from __future__ import annotations

import numpy as np

from tauten.outcome import ALL
from tauten.report.files import read_arrays
from tauten.report.gallery import TOP, Answer, Query, Shown, data_uri, draw
from tauten.report.runs import Array, Run
from tauten.report.view_numbers import ViewNumbers
from tauten.report.view_runs import ViewTest

PICTURES = "train_images.npz"


def gallery(numbers: ViewNumbers, images: Array, per_group: int, seed: int) -> list[Query]:
    """Return the queries, and what the first seed of every run that kept its training images finds.

    Args:
        numbers: The runs.
        images: (Q, H, W, 3) uint8 test images, in the order of the features.
        per_group: Test images per group.
        seed: Seed of their choice, which does not look at the outcome.

    Raises:
        ValueError: training images that do not fit the features.
    """
    known = {run.name: _pictures(run) for run in numbers.runs}
    shown = [run for run in numbers.runs if known[run.name] is not None]
    if not shown:
        return []
    first = numbers.tests[shown[0].name, shown[0].first.seed]
    names = [first.groups[c] for c in first.of_x.tolist()]
    queries = []
    for i in draw(names, numbers.by_count or [ALL], per_group, seed):
        label = first.names[int(first.of_x[i])]
        answers = []
        for run in shown:
            pictures = known[run.name]
            assert pictures is not None
            test = numbers.tests[run.name, run.first.seed]
            found = [
                _shown(pictures[j], rank, test.names[int(test.of_known[j])], label)
                for rank, j in enumerate(test.nearest(i, TOP), start=1)
            ]
            answers.append(Answer(numbers.label(run), found, _rank(test, i), "first of its class"))
        target = Shown(data_uri(images[i]), True, f"test image of {label}")
        queries.append(Query(label, names[i], target, answers))
    return queries


def _pictures(run: Run) -> Array | None:
    path = run.first.path / PICTURES
    if not path.exists():
        return None
    images: Array = read_arrays(path, ["images"])["images"]
    n = len(run.first.test["train"])
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[::3] != (n, 3):
        raise ValueError(
            f"{path} must hold images, uint8 ({n}, H, W, 3), not {images.dtype} {images.shape}"
        )
    return images


def _shown(picture: Array, rank: int, found: str, label: str) -> Shown:
    right = found == label
    return Shown(data_uri(picture), right, f"rank {rank}, {'right' if right else 'wrong'}: {found}")


def _rank(test: ViewTest, i: int) -> int:
    """Return the place of the nearest training image of the query's class; 0 where it has none."""
    cosine = test.known @ test.x[i]
    own = test.of_known == test.of_x[i]
    return int((cosine[~own] >= cosine[own].max()).sum()) + 1 if own.any() else 0
