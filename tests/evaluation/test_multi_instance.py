"""EK-100 multi-instance retrieval: the hand-checked vector and a literal loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tauten.evaluation import (
    multi_instance,
    multi_instance_retrieval,
    multi_instance_scores,
)

SIM = [[0.9, 0.6, 0.7], [0.5, 0.4, 0.8], [0.1, 0.3, 0.2]]
REL = [[1, 0.5, 0], [0.5, 1, 0.25], [0, 0.25, 1]]


def test_hand_checked_vector():
    found = multi_instance_retrieval(torch.tensor(SIM), torch.tensor(REL))
    expected = {
        "nDCG/x2y": 0.753588,
        "nDCG/y2x": 0.695944,
        "mAP_official/x2y": 0.736111,
        "mAP_official/y2x": 0.722222,
        "mAP_textbook/x2y": 0.611111,
        "mAP_textbook/y2x": 0.611111,
    }
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-6)
    for name in ("nDCG", "mAP_official", "mAP_textbook"):
        assert found[f"{name}/mean"] == (found[f"{name}/x2y"] + found[f"{name}/y2x"]) / 2
    assert found["n/x2y"] == 3
    assert found["n_without_exact/y2x"] == found["n_without_relevant/y2x"] == 0


def test_intervals_over_queries():
    generator = torch.Generator().manual_seed(0)
    sim = torch.randn(40, 40, generator=generator) + 2 * torch.eye(40)
    rel = torch.eye(40) + 0.5 * (torch.rand(40, 40, generator=generator) < 0.1)
    rel = rel.clamp(max=1)
    rel[3] = 0.5  # no exact match in x2y
    plain = multi_instance_retrieval(sim, rel)
    found = multi_instance_retrieval(sim, rel, bootstrap=200, seed=1)
    assert {key: found[key] for key in plain} == plain
    assert found == multi_instance_retrieval(sim, rel, bootstrap=200, seed=1)
    alone = [multi_instance_retrieval(sim[i : i + 1], rel[i : i + 1]) for i in range(40)]
    for key in ("nDCG/x2y", "mAP_official/x2y"):
        scores = torch.tensor([one[key] for one in alone], dtype=torch.float64)
        known = scores[~scores.isnan()]
        wanted = 1.96 * float(known.std()) / len(known) ** 0.5
        assert found[f"{key}/low"] < found[key] < found[f"{key}/high"]
        half = (found[f"{key}/high"] - found[f"{key}/low"]) / 2
        assert half == pytest.approx(wanted, rel=0.25)
    width = [found[f"nDCG/{way}/high"] - found[f"nDCG/{way}/low"] for way in ("x2y", "mean")]
    assert width[1] < 1.5 * width[0]


def test_scores_are_those_of_each_query_alone():
    generator = torch.Generator().manual_seed(3)
    sim = torch.randint(0, 6, (12, 9), generator=generator).float()  # with ties
    rel = torch.randint(0, 5, (12, 9), generator=generator) / 4
    rel[2], rel[5] = 0.0, 0.5  # nothing relevant; nothing exact
    for way, one, graded in (("x2y", sim, rel), ("y2x", sim.T, rel.T)):
        found = multi_instance_scores(one, graded)
        assert list(found) == ["nDCG", "mAP_official", "mAP_textbook"]
        whole = multi_instance_retrieval(sim, rel)
        for key, scores in found.items():
            alone = [
                multi_instance_retrieval(one[i : i + 1], graded[i : i + 1])[f"{key}/x2y"]
                for i in range(len(one))
            ]
            assert scores.tolist() == pytest.approx(alone, abs=1e-12, nan_ok=True)
            assert float(scores.nanmean()) == whole[f"{key}/{way}"]
    scores = multi_instance_scores(sim, rel)
    assert scores["nDCG"].isnan().nonzero().tolist() == [[2]]
    assert {2, 5} <= set(scores["mAP_official"].isnan().nonzero().flatten().tolist())
    with pytest.raises(ValueError, match=r"two non-empty matrices of the same shape"):
        multi_instance_scores(sim, rel.T)


def test_without_any_value_there_is_no_interval():
    found = multi_instance_retrieval(torch.eye(3), torch.full((3, 3), 0.5), bootstrap=10)
    assert math.isnan(found["mAP_official/mean"])
    assert "mAP_official/mean/low" not in found
    assert "nDCG/mean/low" in found
    with pytest.raises(ValueError, match="bootstrap must be at least 0, not -1"):
        multi_instance_retrieval(torch.eye(3), torch.eye(3), bootstrap=-1)


def loop(sim, rel):
    """One direction, rank by rank; equal similarities in ascending order of relevancy."""
    ndcg, official, textbook = [], [], []
    for s, r in zip(sim, rel, strict=True):
        order = sorted(range(len(s)), key=lambda j: (-s[j], r[j]))
        ideal = sorted(r, reverse=True)
        k = sum(v > 0 for v in r)
        if k:
            dcg = sum(r[order[i]] / math.log2(i + 2) for i in range(k))
            ndcg.append(dcg / sum(ideal[i] / math.log2(i + 2) for i in range(k)))
        running = exact = 0.0
        graded, binary = [], []
        for place, j in enumerate(order, start=1):
            running += r[j]
            exact += r[j] == 1
            if r[j] == 1:
                graded.append(running / place)
                binary.append(exact / place)
        if graded:
            official.append(np.mean(graded))
            textbook.append(np.mean(binary))
    return {"nDCG": ndcg, "mAP_official": official, "mAP_textbook": textbook}


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**16),
    st.integers(1, 8),
    st.integers(1, 12),
    st.sampled_from([2, 5, 10**6]),
    st.integers(1, 30),
)
def test_against_loop_with_ties(seed, n, m, levels, budget):
    rng = np.random.default_rng(seed)
    sim = rng.integers(0, levels, (n, m)) / levels
    rel = rng.choice([0, 0, 0.25, 0.5, 1], (n, m))
    original = multi_instance.BUDGET
    multi_instance.BUDGET = budget
    try:
        found = multi_instance_retrieval(sim, rel)
    finally:
        multi_instance.BUDGET = original
    for direction, s, r in (("x2y", sim, rel), ("y2x", sim.T, rel.T)):
        expected = loop(s, r)
        for name, values in expected.items():
            mean = np.mean(values) if values else float("nan")
            assert found[f"{name}/{direction}"] == pytest.approx(mean, abs=1e-12, nan_ok=True)
        queries = len(s)
        assert found[f"n/{direction}"] == queries
        assert found[f"n_without_exact/{direction}"] == queries - len(expected["mAP_official"])
        assert found[f"n_without_relevant/{direction}"] == queries - len(expected["nDCG"])


def test_perfect_ranking_is_one_and_ignores_monotone_maps():
    rel = torch.tensor(REL)
    perfect = multi_instance_retrieval(rel, rel)
    assert perfect["nDCG/mean"] == perfect["mAP_textbook/mean"] == 1
    sim = torch.tensor(SIM, dtype=torch.float64)
    assert multi_instance_retrieval(sim, rel) == multi_instance_retrieval((sim + 1) / 2, rel)


def test_all_equal_similarities_take_the_worst_order():
    found = multi_instance_retrieval(torch.zeros(1, 4), torch.tensor([[1.0, 0, 0, 0]]))
    assert found["mAP_textbook/x2y"] == 0.25
    assert found["nDCG/x2y"] == 0


def test_queries_without_exact_match_are_left_out_and_counted():
    found = multi_instance_retrieval(
        torch.tensor([[0.9, 0.1], [0.9, 0.1]]), torch.tensor([[1.0, 0.0], [0.5, 0.25]])
    )
    assert found["mAP_official/x2y"] == 1
    assert found["n_without_exact/x2y"] == 1
    none = multi_instance_retrieval(torch.eye(2), torch.zeros(2, 2))
    assert math.isnan(none["mAP_textbook/x2y"])
    assert math.isnan(none["nDCG/mean"])
    assert none["n_without_relevant/x2y"] == 2


@pytest.mark.parametrize(
    ("sim", "rel", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), r"not \(2, 3\) and \(3, 2\)"),
        (np.zeros(3), np.zeros(3), "two non-empty matrices"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "two non-empty matrices"),
        (np.array([[0.0], [np.nan]]), np.zeros((2, 1)), "NaN or inf in 1 rows, first 1"),
        (np.zeros((2, 1)), np.array([[0.0], [1.5]]), r"\[1, 0\] is 1.5"),
        (np.zeros((2, 1)), np.array([[0.0], [np.nan]]), r"\[1, 0\] is nan"),
    ],
)
def test_errors(sim, rel, message):
    with pytest.raises(ValueError, match=message):
        multi_instance_retrieval(sim, rel)
