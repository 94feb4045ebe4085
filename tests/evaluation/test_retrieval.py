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
        "MRR": np.mean([1 / rank for rank in best]),
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
    names += ["mAP", "MRR", "mean_rank", "median_rank"]
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
    assert found["x2y/hit@10"] == found["x2y/hit@1/high"] == found["x2y/median_rank/high"] == 1
    assert found["x2y/hit@1/low"] == pytest.approx(1 / (1 + 1.959964**2))


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
        ({"bootstrap": -1}, "bootstrap must be at least 0, not -1"),
        ({"ks": (2.5,)}, r"ks must be positive integers, at least one, not \[2.5\]"),
        ({"ks": (True,)}, r"not \[True\]"),
        ({"ks": (math.nan,)}, r"not \[nan\]"),
        ({"ks": "5"}, "ks must be a sequence"),
        ({"ks": 5}, "ks must be a sequence"),
        ({"groups": "abcd"}, "groups must be a list"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"tile": 2.0}, "tile must be a whole number"),
        ({"ties": "fair"}, "ties must be one of pessimistic, optimistic, mean"),
        ({"exclude_self": True}, "4 x are their own match"),
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


def test_one_long_row_moves_no_other_rank():
    """The rounding that counts as a tie is that of each pair, not of the longest rows."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 16, generator=generator)
    y = x + 0.3 * torch.randn(200, 16, generator=generator)
    long = torch.zeros(1, 16)
    long[0, 0] = 1e4
    x, y = torch.cat([x, long]), torch.cat([y, long])
    found = ranks(x, y, torch.arange(201), normalize=False)
    sim = x.double().numpy() @ y.double().numpy().T
    for direction, scores in (("x2y", sim), ("y2x", sim.T)):
        exact = (scores >= scores.diagonal()[:, None]).sum(axis=1)
        assert (found[direction].best.numpy() == exact).mean() > 0.98


def test_within_one_modality_a_sample_does_not_find_itself():
    """Four tight clusters of five: each sample's nearest others are its own cluster."""
    generator = torch.Generator().manual_seed(1)
    x = torch.eye(4, 8).repeat_interleave(5, dim=0) + 0.01 * torch.randn(20, 8, generator=generator)
    others = [[j for j in range(20) if j // 5 == i // 5 and j != i] for i in range(20)]
    found = retrieval(x, x, others, (1, 4), bootstrap=0, exclude_self=True)
    assert found["x2y/hit@1"] == found["x2y/mAP"] == found["y2x/recall@4"] == 1
    assert retrieval(x, x, others, (1,), bootstrap=0)["x2y/hit@1"] == 0
    for options in ({"tile": 3}, {"one_pass": True, "tile": 7}, {"ties": "mean"}):
        again = retrieval(x, x, others, (1, 4), bootstrap=0, exclude_self=True, **options)
        assert again == pytest.approx(found)
    assert ranks(x, x, others, exclude_self=True)["x2y"].candidates == 19
    with pytest.raises(
        ValueError, match=r"20 x are their own match in y_of_x \(0, 1, 2, 3, 4, ...\)"
    ):
        ranks(x, x, torch.arange(20), exclude_self=True)


@pytest.mark.parametrize(("ties", "expected"), [("pessimistic", 7), ("optimistic", 1), ("mean", 4)])
def test_ties_of_collapsed_embeddings(ties, expected, tmp_path):
    """open_clip's own test of its metrics: all scores equal, mean rank 4 of 7."""
    x = torch.ones(7, 3)
    path = tmp_path / "state"
    for _ in range(2):
        found = ranks(x, x, torch.arange(7), ties=ties, resume=path)
        assert found["x2y"].best.tolist() == [expected] * 7
    found = retrieval(x, x, torch.arange(7), ks=(4,), bootstrap=10, ties=ties)
    assert found["x2y/mean_rank"] == expected
    assert found["x2y/hit@4"] == (expected <= 4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16))
def test_ties_of_small_numbers_against_loop(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-1, 2, (6, 3)), rng.integers(-1, 2, (9, 3))
    y_of_x = [sorted(rng.choice(9, rng.integers(1, 4), replace=False).tolist()) for _ in range(6)]
    for ties in ("pessimistic", "optimistic", "mean"):
        found = ranks(
            torch.tensor(x).float(),
            torch.tensor(y).float(),
            y_of_x,
            directions=["x2y"],
            normalize=False,
            ties=ties,
        )["x2y"]
        expected = []
        for row, own in zip(x @ y.T, y_of_x, strict=True):
            others = np.delete(row, own)
            best = max(row[own])
            worst, first = (others >= best).sum() + 1, (others > best).sum() + 1
            expected.append(
                {"pessimistic": worst, "optimistic": first}.get(ties, (worst + first) / 2)
            )
        assert found.best.tolist() == expected


def test_captions_of_an_image_are_drawn_together():
    """Five equal captions of each image: the intervals of y2x are those of the images."""
    x, y = embeddings(60, noise=2.0)
    five = y.repeat_interleave(5, dim=0)
    y_of_x = torch.arange(300).view(60, 5).tolist()
    groups = ["head"] * 40 + ["tail"] * 20
    one = retrieval(x, y, range(60), (1, 5), groups, bootstrap=200)
    all_five = retrieval(x, five, y_of_x, (1, 5), groups, bootstrap=200)
    assert 0 < one["y2x/hit@1"] < 1
    for metric in ("hit@1", "hit@1/tail", "recall@5", "mAP", "mean_rank/head", "median_rank"):
        for end in ("", "/low", "/high"):
            key = f"y2x/{metric}{end}"
            assert all_five[key] == pytest.approx(one[key])


def test_a_group_without_a_hit_has_an_interval():
    x = torch.eye(12)
    y = torch.cat([torch.eye(12)[:6], torch.eye(12)[[7, 8, 9, 10, 11, 6]]])
    found = retrieval(x, y, range(12), (1,), ["head"] * 6 + ["tail"] * 6, bootstrap=20)
    assert (found["x2y/hit@1/tail"], found["x2y/hit@1/tail/low"]) == (0, 0)
    assert found["x2y/hit@1/tail/high"] == pytest.approx(1.959964**2 / (6 + 1.959964**2))
    assert (found["x2y/hit@1/head"], found["x2y/hit@1/head/high"]) == (1, 1)
    assert found["x2y/hit@1/head/low"] == pytest.approx(6 / (6 + 1.959964**2))


def test_names_of_groups_may_be_an_array():
    x, names = torch.randn(4, 8), ["a", "b", "b", "a"]
    of_y = ["c", "c", "a", "a"]
    expected = retrieval(x, x, torch.arange(4), groups=names, group_of_y=of_y, bootstrap=0)
    found = retrieval(
        x, x, torch.arange(4), groups=np.array(names), group_of_y=np.array(of_y), bootstrap=0
    )
    assert set(found) == set(expected)
    assert found == pytest.approx(expected, nan_ok=True)
