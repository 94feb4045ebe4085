"""Retrieval metrics, groups and intervals."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tauten.evaluation import TIES, ranks, retrieval


def loop_metrics(sim, relevant, ks):
    """Every metric by sorting each row with non-matching candidates first among equals."""
    hits = {k: [] for k in ks}
    recalls = {k: [] for k in ks}
    best, ap = [], []
    for row, own in zip(sim, relevant, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], j in own))
        places = [r for r, j in enumerate(order, start=1) if j in own]
        best.append(places[0])
        ap.append(np.mean([found / r for found, r in enumerate(places, start=1)]))
        for k in ks:
            hits[k].append(any(j in own for j in order[:k]))
            recalls[k].append(sum(j in own for j in order[:k]) / len(own))
    out = {f"hit@{k}": np.mean(v) for k, v in hits.items()}
    out |= {f"recall@{k}": np.mean(v) for k, v in recalls.items()}
    return out | {
        "median_rank": np.median(best),
        "mean_rank": np.mean(best),
        "mAP": np.mean(ap),
        "n": len(best),
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3))
def test_all_metrics_and_groups_against_loop(seed, n, captions, levels):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, captions + 1, n)
    bounds = np.concatenate([[0], counts.cumsum()])
    y_of_x = [list(range(a, b)) for a, b in itertools.pairwise(bounds)]
    x = rng.integers(-levels, levels + 1, (n, 3))
    y = rng.integers(-levels, levels + 1, (bounds[-1], 3))
    groups = [("head", "mid", "tail")[g] for g in rng.integers(0, 3, n)]
    found = retrieval(
        torch.tensor(x).float(),
        torch.tensor(y).float(),
        y_of_x,
        ks=(1, 2, 100),
        groups=groups,
        normalize=False,
        bootstrap=0,
    )
    x_of_y = [[i] for i, own in enumerate(y_of_x) for _ in own]
    group_of_y = [groups[own[0]] for own in x_of_y]
    expected = {}
    for direction, sim, relevant, names in (
        ("x2y", x @ y.T, y_of_x, groups),
        ("y2x", y @ x.T, x_of_y, group_of_y),
    ):
        for name, value in loop_metrics(sim, relevant, (1, 2, 100)).items():
            expected[f"{direction}/{name}"] = value
        for group in set(groups):
            rows = [i for i, g in enumerate(names) if g == group]
            part = loop_metrics(sim[rows], [relevant[i] for i in rows], (1, 2, 100))
            expected |= {f"{direction}/{name}/{group}": v for name, v in part.items()}
    assert found == pytest.approx(expected, abs=1e-12)


def test_by_hand_five_queries():
    x = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.2, 0.1], [0.8, 0.7, 0.6]])
    found = retrieval(x, torch.eye(3), [0, 1, 2], ks=(1, 2), normalize=False, bootstrap=0)
    assert found["x2y/hit@1"] == pytest.approx(1 / 3)
    assert found["x2y/hit@2"] == pytest.approx(2 / 3)
    assert found["x2y/median_rank"] == 2
    assert found["x2y/mean_rank"] == 2
    assert found["x2y/mAP"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert found["y2x/hit@1"] == pytest.approx(2 / 3)
    assert found["y2x/n"] == 3


def embeddings(n=200, d=16, noise=1.2):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n, d, generator=generator)
    return x, x + noise * torch.randn(n, d, generator=generator)


def test_intervals_have_every_key_and_enclose_the_value():
    x, y = embeddings()
    groups = ["head"] * 120 + ["tail"] * 80
    found = retrieval(x, y, torch.arange(200), groups=groups, bootstrap=300)
    names = [f"{kind}@{k}" for kind in ("hit", "recall") for k in (1, 5, 10)]
    names += ["mAP", "mean_rank", "median_rank"]
    values = [
        f"{direction}/{name}{group}"
        for direction in ("x2y", "y2x")
        for name in names
        for group in ("", "/head", "/tail")
    ]
    counts = [f"{d}/n{g}" for d in ("x2y", "y2x") for g in ("", "/head", "/tail")]
    assert set(found) == {*values, *counts, *(f"{v}/{e}" for v in values for e in ("low", "high"))}
    assert found["x2y/n/tail"] == 80
    assert all(found[f"{v}/low"] <= found[v] <= found[f"{v}/high"] for v in values)
    assert all(isinstance(value, float) for value in found.values())


def test_interval_agrees_with_the_binomial():
    x, y = embeddings(400)
    found = retrieval(x, y, torch.arange(400), ks=(1,), bootstrap=4000)
    p = found["x2y/hit@1"]
    half = 1.96 * math.sqrt(p * (1 - p) / 400)
    assert 0.2 < p < 0.9
    assert found["x2y/hit@1/low"] == pytest.approx(p - half, abs=0.15 * half)
    assert found["x2y/hit@1/high"] == pytest.approx(p + half, abs=0.15 * half)


def test_interval_against_a_literal_bootstrap():
    x, y = embeddings(60)
    found = retrieval(x, y, torch.arange(60), ks=(1,), bootstrap=4000, seed=1)
    best = ranks(x, y, torch.arange(60))["x2y"].best.numpy()
    rng = np.random.default_rng(0)
    drawn = [best[rng.integers(0, 60, 60)] for _ in range(4000)]
    for name, function in (("mean_rank", np.mean), ("median_rank", np.median)):
        low, high = np.percentile([function(sample) for sample in drawn], [2.5, 97.5])
        assert found[f"x2y/{name}/low"] == pytest.approx(low, rel=0.08, abs=0.51)
        assert found[f"x2y/{name}/high"] == pytest.approx(high, rel=0.08, abs=0.51)


def test_seed_decides_the_interval_only():
    x, y = embeddings(50)
    first, again, other = (
        retrieval(x, y, range(50), bootstrap=50, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first["x2y/mAP"] == other["x2y/mAP"]


def test_groups_do_not_change_the_overall_interval():
    x, y = embeddings(50)
    without = retrieval(x, y, range(50), bootstrap=50)
    grouped = retrieval(x, y, range(50), groups=["a", "b"] * 25, bootstrap=50)
    assert without.items() <= grouped.items()


def test_group_of_y_overrides_and_resolves_shared_captions():
    x, y = torch.eye(3), torch.eye(3)[:2]
    y_of_x = [0, 1, 1]
    with pytest.raises(ValueError, match=r"y 1 matches x of different groups .*group_of_y="):
        retrieval(x, y, y_of_x, groups=["head", "head", "tail"], bootstrap=0)
    found = retrieval(
        x, y, y_of_x, groups=["head", "head", "tail"], group_of_y=["head", "tail"], bootstrap=0
    )
    assert found["y2x/n/tail"] == 1
    assert found["x2y/n/head"] == 2


def test_distractors_are_candidates_of_one_direction():
    found = retrieval(torch.eye(3)[:2], torch.eye(3), [0, 1], directions=["x2y"], bootstrap=0)
    assert {key.split("/")[0] for key in found} == {"x2y"}
    with pytest.raises(ValueError, match="1 of 3 y have no match"):
        retrieval(torch.eye(3)[:2], torch.eye(3), [0, 1], bootstrap=0)


def test_single_query():
    found = retrieval(torch.eye(1), torch.eye(1), [[0]], ks=(1, 10), bootstrap=10)
    assert found["x2y/hit@10"] == found["x2y/hit@1/low"] == found["x2y/median_rank/high"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": (0, 1)}, r"ks must be positive integers, at least one, not \[0, 1\]"),
        ({"ks": ()}, "at least one, not"),
        ({"groups": ["a"]}, "groups has 1 names for 4 x"),
        ({"group_of_y": ["a"] * 5}, "group_of_y has 5 names for 4 y"),
        ({"groups": ["a", "b", "low", "a"]}, "groups contains 'low'"),
        ({"groups": ["a", "b", "a/b", "a"]}, "groups contains 'a/b'"),
        ({"groups": ["a", "b", 3, "a"]}, "groups contains 3"),
        ({"bootstrap": -1}, "bootstrap must be 0 or more replicates, not -1"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        retrieval(torch.eye(4), torch.eye(4), range(4), **options)


def test_ties_are_documented():
    assert "pessimistically" in TIES
    assert "pessimistic" in retrieval.__doc__


def test_import_needs_torch_only():
    code = (
        "import sys, tauten.evaluation;"
        "heavy = {'transformers', 'datasets', 'matplotlib', 'kornia', 'faiss', 'sklearn', 'PIL'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
