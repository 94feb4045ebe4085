"""Scores of pairs with graded relevancies."""

import math

import pytest
import torch
from torch.nn import functional as F

from tauten.outcome import load, of_pairs, save

OWN = [[0, 1], [2], [1, 3]]
GROUPS = ["head", "mid", "tail"]


@pytest.fixture
def sides():
    generator = torch.Generator().manual_seed(5)
    x, y = (F.normalize(torch.randn(n, 4, generator=generator), dim=1) for n in (3, 4))
    relevancy = torch.rand(3, 4, generator=generator) * 0.9
    for i, own in enumerate(OWN):
        relevancy[i, own] = 1.0
    relevancy[0, 3] = 0.0
    return x, y, relevancy


def literal(similarity, relevancy):
    """nDCG and AP of one query, candidate by candidate."""
    order = sorted(range(len(similarity)), key=lambda j: -similarity[j])
    ranked, ideal = [relevancy[j] for j in order], sorted(relevancy, reverse=True)
    counted = sum(rel > 0 for rel in relevancy)
    gain = [
        sum(rel / math.log2(r + 2) for r, rel in enumerate(rels[:counted]))
        for rels in (ranked, ideal)
    ]
    exact = [r for r, rel in enumerate(ranked) if rel == 1]
    return gain[0] / gain[1], sum(sum(ranked[: r + 1]) / (r + 1) for r in exact) / len(exact)


def test_scores_are_the_mean_of_a_query_and_its_own_captions(sides):
    x, y, relevancy = sides
    made = of_pairs(x, y, OWN, GROUPS, relevancy=relevancy)
    similarity = x.double() @ y.double().T
    of_x = [literal(similarity[i].tolist(), relevancy[i].tolist()) for i in range(3)]
    of_y = [literal(similarity[:, j].tolist(), relevancy[:, j].tolist()) for j in range(4)]
    for place, name in enumerate(("nDCG", "mAP")):
        wanted = [
            (of_x[i][place] + sum(of_y[j][place] for j in own) / len(own)) / 2
            for i, own in enumerate(OWN)
        ]
        assert made.scores(name).tolist() == pytest.approx(wanted, rel=1e-6)
        assert made.metrics()["mid"][name] == pytest.approx(wanted[1], rel=1e-6)
    plain = of_pairs(x, y, OWN, GROUPS)
    assert torch.equal(made.scores("mean_recall"), plain.scores("mean_recall"))


def test_kept_whole(sides, tmp_path):
    x, y, relevancy = sides
    made = of_pairs(x, y, OWN, GROUPS, relevancy=relevancy)
    save(made, tmp_path / "outcome.npz")
    again = load(tmp_path / "outcome.npz")
    assert again.known == made.known
    assert {"nDCG", "mAP", "mean_recall"} <= {*made.known.names}
    assert "class_map" not in made.known.names
    assert again.metrics() == made.metrics()
    assert again.same_queries(of_pairs(x, y, OWN, GROUPS))
    for way in ("x2y", "y2x"):
        for metric in ("nDCG", "mAP_textbook", "mAP", "recall@1", "mean_rank"):
            assert torch.equal(made.sides[way].score(metric), again.sides[way].score(metric))


def test_a_query_without_an_exact_match_has_no_score(sides):
    x, y, relevancy = sides
    without = relevancy.index_fill(0, torch.tensor([1]), 0.5)
    made = of_pairs(x, y, OWN, GROUPS, relevancy=without)
    assert made.scores("hit@1").isfinite().all()
    with pytest.raises(ValueError, match="1 of 3 queries have no candidate of relevancy 1"):
        made.scores("mAP")
