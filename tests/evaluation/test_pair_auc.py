"""AUC over all pairs against all comparisons."""

import numpy as np
import pytest
import torch

from tauten.evaluation import pair_auc


def loop(sim, relevant, counted):
    above, below = sim[relevant & counted], sim[~relevant & counted]
    wins = (above[:, None] > below).sum() + (above[:, None] == below).sum() / 2
    return wins / (len(above) * len(below))


@pytest.mark.parametrize("budget", [1, 40, 10**6])
def test_pairs_classes_and_groups(budget):
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-2, 3, (12, 3)) for _ in range(2))
    sides = [torch.tensor(side).float() for side in (x, y)]
    labels, groups = rng.integers(0, 3, 12), ["head"] * 5 + ["tail"] * 7
    every, off = np.ones((12, 12), bool), ~np.eye(12, dtype=bool)
    same = labels[:, None] == labels
    options = {"normalize": False, "budget": budget}
    found = pair_auc(*sides, groups=groups, **options)
    assert found["AUC"] == pytest.approx(loop(x @ y.T, ~off, every))
    assert found["AUC/head"] == pytest.approx(loop((x @ y.T)[:5], ~off[:5], every[:5]))
    found = pair_auc(*sides, [[i, (i + 1) % 12] for i in range(12)], **options)
    assert found["AUC"] == pytest.approx(loop(x @ y.T, ~off | np.roll(~off, 1, axis=1), every))
    found = pair_auc(*sides, labels=labels, **options)
    assert found["AUC"] == pytest.approx(loop(x @ y.T, same, every))
    found = pair_auc(sides[0], sides[0], labels=labels, exclude_self=True, groups=groups, **options)
    assert found["AUC"] == pytest.approx(loop(x @ x.T, same, off))
    assert found["AUC/tail"] == pytest.approx(loop((x @ x.T)[5:], same[5:], off[5:]))


def test_nothing_to_compare_and_bad_arguments():
    with pytest.warns(UserWarning, match="of 1 rows of x and 1 of y all pairs are relevant"):
        assert np.isnan(pair_auc(torch.eye(1), torch.eye(1))["AUC"])
    with pytest.raises(ValueError, match="give y_of_x or labels"):
        pair_auc(torch.eye(3), torch.eye(3)[:2])
    with pytest.raises(ValueError, match="one of them"):
        pair_auc(torch.eye(3), torch.eye(3), [0, 1, 2], labels=[0, 1, 2])
    with pytest.raises(ValueError, match="same samples"):
        pair_auc(torch.eye(3), torch.eye(3)[:2], labels=[0, 1, 2], exclude_self=True)
