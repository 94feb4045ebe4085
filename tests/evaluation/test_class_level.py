"""Retrieval of the same class against loops in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tauten.evaluation import class_retrieval, class_scores


def loop(sim, of_query, of_candidate, ks, same):
    """AP, hits and recalls of each query that has a relevant candidate, others worst first."""
    found = {}
    for i, row in enumerate(sim):
        columns = [j for j in range(len(row)) if not (same and i == j)]
        relevant = [
            j for j in columns if of_query[i] is not None and of_candidate[j] == of_query[i]
        ]
        if not relevant:
            continue
        order = sorted(columns, key=lambda j: (-row[j], j in relevant))
        places = [r for r, j in enumerate(order, start=1) if j in relevant]
        scores = {"mAP": np.mean([n / r for n, r in enumerate(places, start=1)])}
        scores |= {"MRR": 1 / places[0], "mean_rank": places[0]}
        scores |= {f"hit@{k}": places[0] <= k for k in ks}
        scores |= {f"recall@{k}": np.mean([r <= k for r in places]) for k in ks}
        found[i] = scores
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 9), st.integers(1, 3), st.integers(1, 20))
def test_all_ways_against_loops_with_ties_and_samples_without_class(seed, n, levels, budget):
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(-levels, levels + 1, (n, 3)) for _ in range(2))
    names = [("a", "b", "c", None)[k] for k in rng.integers(0, 4, n)]
    groups = [("head", "tail")[k] for k in rng.integers(0, 2, n)]
    found = class_retrieval(
        torch.tensor(x).float(),
        names,
        torch.tensor(y).float(),
        ks=(1, 3),
        groups=groups,
        normalize=False,
        bootstrap=0,
        budget=budget,
    )
    for way, a, b in (("x2y", x, y), ("y2x", y, x), ("x2x", x, x), ("y2y", y, y)):
        expected = loop(a @ b.T, names, names, (1, 3), way[0] == way[-1])
        assert found[f"{way}/n"] == len(expected)
        assert found[f"{way}/n_without"] == n - len(expected)
        for group in ("", "head", "tail"):
            own = [v for i, v in expected.items() if group in ("", groups[i])]
            end = f"/{group}" if group else ""
            assert (f"{way}/mAP{end}" in found) == bool(own)
            for name in own[0] if own else ():
                mean = np.mean([scores[name] for scores in own])
                assert found[f"{way}/{name}{end}"] == pytest.approx(mean)


def test_rounding_does_not_decide_and_collapse_ranks_last():
    same = torch.randn(1, 48).expand(60, 48) * (1 + 1e-7 * torch.randn(60, 1))
    names = ["a"] * 3 + ["b"] * 57
    found = class_retrieval(same, names, bootstrap=0)
    assert found["x2x/mean_rank"] == pytest.approx((3 * 58 + 57 * 4) / 60)


def test_blocks_and_tied_captions():
    torch.manual_seed(0)
    x, y = torch.randn(30, 5), torch.randn(60, 5)
    labels, groups = torch.arange(30) % 4, ["head", "tail"] * 15
    y_of_x = [[2 * i, 2 * i + 1] for i in range(30)]
    whole = class_retrieval(x, labels, y, groups=groups, y_of_x=y_of_x, bootstrap=50)
    parts = class_retrieval(x, labels, y, groups=groups, y_of_x=y_of_x, bootstrap=50, budget=7)
    assert whole == pytest.approx(parts)
    assert whole["y2x/n/head"] == 30
    assert whole["y2y/n"] == 60
    for way in ("x2y", "y2x", "x2x", "y2y"):
        for end in ("", "/head", "/tail"):
            low, high = (whole[f"{way}/mAP{end}/{side}"] for side in ("low", "high"))
            assert low <= whole[f"{way}/mAP{end}"] <= high
    apart = class_retrieval(
        x, labels, y, labels.repeat_interleave(2), group_of_y=["a"] * 60, directions=("y2x",)
    )
    assert apart["y2x/mAP"] == pytest.approx(whole["y2x/mAP"])


def test_scores_of_each_query():
    x = torch.eye(3)[[0, 0, 1, 2]]
    found = class_scores(x, ["a", "a", "b", None], ways=("x2x",))["x2x"]
    assert found.average_precision().tolist() == pytest.approx([1, 1, np.nan, np.nan], nan_ok=True)


@pytest.mark.parametrize("missing", [float("nan"), np.float32("nan"), None])
def test_a_label_that_is_nan_is_no_class(missing):
    """Two rows of NaN lie nearest to each other, and neither counts as found."""
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    found = class_retrieval(x, ["a", "a", missing, missing], bootstrap=0)
    assert (found["x2x/n"], found["x2x/n_without"], found["x2x/mAP"]) == (2, 2, 1)
    with pytest.raises(ValueError, match="'a' and no class"):
        class_retrieval(x[:2], ["a", missing], x[:1], y_of_x=[[0], [0]])


def test_no_query_with_a_relevant_candidate():
    found = class_retrieval(torch.eye(3), ["a", "b", "c"], groups=["t"] * 3)
    assert found == {"x2x/n": 0, "x2x/n_without": 3, "x2x/n_without/t": 3}


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"labels": ["a"]}, "labels has 1 entries for 3 x"),
        ({"labels": None}, "labels must be a list"),
        ({"directions": ("y2x",)}, "direction y2x needs y"),
        ({"directions": ("z",)}, "unknown direction 'z'"),
        ({"directions": "x2x"}, r"must be a tuple, such as \('x2x',\), got 'x2x'"),
        ({"y": torch.eye(3)[:2]}, "labels_of_y must be a list"),
        ({"y": torch.eye(3)[:2], "y_of_x": [0, 1, 1]}, "labels_of_y="),
        (
            {"y": torch.eye(3)[:2], "labels_of_y": ["a", "b"], "groups": ["t"] * 3},
            "give y_of_x or group_of_y",
        ),
        ({"ks": (0,)}, "ks must be positive"),
    ],
)
def test_bad_arguments(given_, said):
    with pytest.raises(ValueError, match=said):
        class_retrieval(**({"x": torch.eye(3), "labels": ["a", "b", "c"]} | given_))
