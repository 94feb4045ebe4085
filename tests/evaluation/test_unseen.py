"""Recommendation among candidates that were not seen, against a sort in numpy."""

import math

import numpy as np
import pytest
import torch

from tauten.evaluation.unseen import unseen_scores


def by_sorting(x, y, matches, seen, k):
    """Sort what each query has not seen, and count."""
    x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
    recall, gain = [], []
    for query, (right, before) in enumerate(zip(matches, seen, strict=True)):
        left = [j for j in range(len(y)) if j not in before]
        order = sorted(left, key=lambda j: -float(x[query] @ y[j]))[:k]
        gains = [1 / math.log2(2 + at) for at, j in enumerate(order) if j in right]
        recall.append(len(gains) / len(right))
        gain.append(sum(gains) / sum(1 / math.log2(2 + at) for at in range(min(k, len(right)))))
    return recall, gain


def test_scores_are_those_of_a_sort():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 6)), rng.normal(size=(40, 6))
    parts = [rng.permutation(40) for _ in range(30)]
    matches = [part[: 1 + i % 4].tolist() for i, part in enumerate(parts)]
    seen = [part[10 : 10 + i].tolist() for i, part in enumerate(parts)]
    for k in (1, 5, 20):
        found = unseen_scores(torch.tensor(x), torch.tensor(y), matches, seen, k)
        recall, gain = by_sorting(x, y, matches, seen, k)
        np.testing.assert_allclose(found[f"recall@{k}"], recall)
        np.testing.assert_allclose(found[f"NDCG@{k}"], gain)


def test_a_candidate_of_the_same_score_is_ahead():
    x, y = torch.ones(1, 2), torch.ones(3, 2)
    assert unseen_scores(x, y, [[1]], [[]], 2)["recall@2"].tolist() == [0.0]
    assert unseen_scores(x, y, [[1]], [[0]], 2)["recall@2"].tolist() == [1.0]


@pytest.mark.parametrize(("matches", "seen"), [([[]], [[]]), ([[1]], [[0, 1]])])
def test_what_is_refused(matches, seen):
    with pytest.raises(ValueError, match="query 0 has no match, or has seen one"):
        unseen_scores(torch.ones(1, 2), torch.ones(3, 2), matches, seen)
